"""Removes what belonged to completed runs in the background, after the request that completed them has its answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tentacle.scripts.workspace.removal import Pace, RemovalStoppedError, remove_tree
from tentacle.scripts.workspace.validation import SCRIPT_FILE
from tentacle.scripts.workspace.workspaces import Workspaces

_LONGEST_REST = 0.1
_SOON = 0.1
"""Seconds, enough for the answer to leave and for more directories to be added: each batch costs a change of thread."""


class TrashRemover:
    """Use from one event loop.  The next agent removes what is left when this one ends."""

    def __init__(self, workspaces: Workspaces) -> None:
        self._workspaces = workspaces
        self._waiting: list[tuple[Path, str | None]] = []
        self._task: asyncio.Task[None] | None = None
        self._pace = Pace()

    def add(self, directory: Path, run: str | None = None) -> None:
        """Schedules the removal of a directory, and of the files of the run of that name."""
        self._waiting.append((directory, run))
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def reopen(self) -> None:
        """Lets removals begin again after `aclose`."""
        self._pace = Pace()

    async def aclose(self) -> None:
        """Ends the removals that are under way, also those by `remove`, and drops the others."""
        self._waiting.clear()
        self._pace.stop()
        await self.drained()

    def remove(self, path: Path) -> bool:
        """Removes a directory now; returns whether it is gone.  Call from a thread; raises `RemovalStoppedError`."""
        began = time.monotonic()
        gone = remove_tree(path, self._pace.rest)
        # Also between many small ones.
        self._pace.rest(min(time.monotonic() - began, _LONGEST_REST))
        return gone

    async def drained(self) -> None:
        """Returns when nothing is left to remove."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(_SOON)
            batch, self._waiting = self._waiting, []
            # A file system that commits its journal keeps all waiting who change something: not in the event loop.
            await asyncio.to_thread(self._remove_all, batch)
        self._task = None

    def _remove_all(self, batch: Sequence[tuple[Path, str | None]]) -> None:
        for directory, run in batch:
            try:
                left = [directory] if run is None else self._workspaces.forget(run, directory)
            except OSError:
                # The next agent finds it.
                continue
            try:
                for path in left:
                    # What cannot be removed the sweeper tries again, and says so.
                    _ = _remove_bare(path) or self.remove(path)
            except RemovalStoppedError:
                return


def _remove_bare(path: Path) -> bool:
    """Removes a workspace in which the script has left nothing; returns false for any other."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.unlink(SCRIPT_FILE, dir_fd=directory)
        finally:
            os.close(directory)
        path.rmdir()
    except OSError:
        return False
    return True
