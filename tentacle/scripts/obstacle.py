"""What keeps every script from being run, whichever it is: a work directory where nothing can be made.

A file system that has become read-only, has no inode left, or was closed by a script.  The agent goes on, since it must
still tell the server, but is not healthy.  Must not know the sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tentacle.errors import one_line
from tentacle.scripts.errors import ScriptError, WorkspaceNotPreparedError
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.run_files import RunFiles
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.workspaces import Workspaces

log = logging.getLogger(__name__)

_ROOM_BYTES: Final = 256 * 1024
_NAME: Final = ".sandbox-check-"
"""Starts with a dot, which no ticket may."""


def is_full(directory: Path) -> bool:
    """Whether the file system has too few bytes for an empty script."""
    try:
        status = os.statvfs(directory)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < _ROOM_BYTES


def is_left_check(name: str) -> bool:
    """Returns whether that entry of the work directory is left of a check in which the agent has died."""
    return name.startswith(_NAME)


def prepare_empty(workspaces: Workspaces) -> RunFiles:
    """Prepares a script that does nothing, which `remove_prepared` takes away.  Raises `ScriptError`."""
    name = f"{_NAME}{secrets.token_hex(4)}"
    header = RunHeader(ticket=name, task=name, mutex=name, isolation=1, timeout=None, arguments=())
    return workspaces.prepare(header, "echo", ())


def remove_prepared(workspaces: Workspaces, files: RunFiles) -> None:
    """Raises `OSError`."""
    for left in workspaces.forget(files.name, files.workspace):
        remove_tree(left)


class Obstacle:
    """Known after each `look`; use from one event loop."""

    def __init__(self, workspaces: Workspaces) -> None:
        self.reason: str | None = None
        """One line with the directory; None as long as scripts can be prepared."""
        self._workspaces = workspaces

    async def look(self) -> str | None:
        """Tries to prepare a script; returns the reason when that fails.  A change is told in the log."""
        found = await self._attempt()
        if found is None:
            self._is_gone()
        elif self.reason is None:
            log.error("No script can be run now: %s", found)
        self.reason = found
        return found

    @contextlib.asynccontextmanager
    async def noticed(self) -> AsyncIterator[None]:
        """For the preparation of a script: one that fails may have met it, after one that does not it is gone."""
        try:
            yield
        except ScriptError:
            await self.look()
            raise
        self._is_gone()

    def _is_gone(self) -> None:
        if self.reason is not None:
            log.info("Scripts can be run again")
        self.reason = None

    async def _attempt(self) -> str | None:
        try:
            files = await self._workspaces.make(lambda: prepare_empty(self._workspaces))
        except ScriptError as error:
            # That the disk is full is told by the free space.
            return None if is_full(self._workspaces.work) else self._reason_of(error)
        files.close()
        # What cannot be removed keeps no script from running.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(remove_prepared, self._workspaces, files)
        return None

    def _reason_of(self, error: ScriptError) -> str:
        cause = error.__cause__
        if not isinstance(error, WorkspaceNotPreparedError) or not isinstance(cause, OSError):
            return " ".join(filter(None, (one_line(error), error.hint)))
        # The names of what was tried are nobody's.
        place = Path(cause.filename if isinstance(cause.filename, str) else "").parent
        return f"nothing can be made in '{place if place.is_absolute() else self._workspaces.work}': {cause.strerror}"
