"""Removes old workspaces that nobody has completed (tentacle-services.md 5.1).

A workspace is a directory with a log or, failing that, a script in it; its age is that file's.  Everything else below
the work directory, every script that still runs and every target of a symbolic link is left alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from tentacle.scripts.engine import ScriptEngine
from tentacle.scripts.record import LOG_FILE, SCRIPT_FILE
from tentacle.scripts.workspace import remove_tree

log = logging.getLogger(__name__)


class WorkspaceCleaner:
    """Sweeps the workspaces of `engine` at once and then `every` so often; `clock` gives seconds since 1970."""

    def __init__(
        self,
        engine: ScriptEngine,
        *,
        older_than: timedelta,
        every: timedelta,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._older_than = older_than
        self._every = every
        self._clock = clock

    async def run(self) -> None:
        """Sweeps for ever."""
        while True:
            await self.sweep()
            await asyncio.sleep(self._every.total_seconds())

    async def sweep(self) -> int:
        """Removes what is too old; gives the number of workspaces removed."""
        log.debug("Cleaning workspaces older than %s", self._older_than)
        too_old = await asyncio.to_thread(self._find)
        removed = 0
        for path in too_old:
            if self._engine.is_running(path.name):
                continue
            if await self._engine.discard(path):
                removed += 1
            else:
                log.warning("Could not delete workspace %s.", path)
        if removed:
            log.info("Deleted %d workspace%s.", removed, "" if removed == 1 else "s")
        else:
            log.debug("No workspaces found that need to be deleted.")
        return removed

    def _find(self) -> list[Path]:
        for trash in self._engine.workspaces.trash():
            remove_tree(trash)
        limit = self._clock() - self._older_than.total_seconds()
        return [path for path, changed in self._dated() if changed < limit]

    def _dated(self) -> Iterator[tuple[Path, float]]:
        for path in self._engine.workspaces.directories():
            for name in (LOG_FILE, SCRIPT_FILE):
                try:
                    yield path, (path / name).lstat().st_mtime
                except OSError:
                    continue
                break
