"""Removes old workspaces that nobody has completed (tentacle-services.md 5.1), and more of them when there is a quota.

A workspace is a directory with a log or, failing that, a script in it; its age is that file's.  Everything else below
the work directory, every script that still runs and every target of a symbolic link is left alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tentacle.scripts.disk import file_size
from tentacle.scripts.engine import ScriptEngine
from tentacle.scripts.workspace.removal import entries_below, remove_tree
from tentacle.scripts.workspace.run_files import LOG_FILE, SCRIPT_FILE, is_watched

log = logging.getLogger(__name__)

STILL_ASKED_FOR = timedelta(minutes=10)
"""For how long after its last line of log a workspace is kept whatever the quota: its result may not be fetched yet."""
_BLOCK = 512


@dataclass(frozen=True)
class Usage:
    """What a directory takes on its disk: bytes, in whole blocks, and inodes."""

    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.bytes + other.bytes, self.inodes + other.inodes)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.bytes - other.bytes, self.inodes - other.inodes)

    def __str__(self) -> str:
        return f"{file_size(self.bytes)} in {self.inodes} inodes"


@dataclass(frozen=True)
class Quota:
    """What all workspaces together may take; `None` is no limit."""

    bytes: int | None = None
    inodes: int | None = None

    def __bool__(self) -> bool:
        return self.bytes is not None or self.inodes is not None

    def allows(self, usage: Usage) -> bool:
        return (self.bytes is None or usage.bytes <= self.bytes) and (
            self.inodes is None or usage.inodes <= self.inodes
        )

    def __str__(self) -> str:
        parts = [] if self.bytes is None else [file_size(self.bytes)]
        return " in ".join(parts + ([] if self.inodes is None else [f"{self.inodes} inodes"]))


class WorkspaceCleaner:
    """Sweeps the workspaces of `engine` at once and then `every` so often; `clock` gives seconds since 1970."""

    def __init__(
        self,
        engine: ScriptEngine,
        *,
        older_than: timedelta,
        every: timedelta,
        quota: Quota | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._older_than = older_than
        self._every = every
        self._quota = quota or Quota()
        self._clock = clock
        self._told_of: set[Path] = set()
        """What could not be removed: said once, though tried again and again."""

    async def run(self) -> None:
        """Sweeps for ever."""
        while True:
            await self.sweep()
            await asyncio.sleep(self._every.total_seconds())

    async def sweep(self) -> int:
        """Removes what is too old, then what is too much; gives the number of workspaces removed."""
        log.debug("Cleaning workspaces older than %s", self._older_than)
        removed = 0
        for path in await asyncio.to_thread(self._find):
            removed += await self._remove(path)
        if removed:
            log.info("Deleted %s.", _workspaces(removed))
        else:
            log.debug("No workspaces found that need to be deleted.")
        return removed + (await self._make_room() if self._quota else 0)

    async def _make_room(self) -> int:
        """Removes workspaces, the one first whose script has been silent the longest, until the quota is kept."""
        sizes = await asyncio.to_thread(self._measure)
        before = used = sum(sizes.values(), Usage())
        removed = 0
        for path in await asyncio.to_thread(self._oldest_first):
            if self._quota.allows(used):
                break
            if await self._remove(path):
                removed += 1
                used -= sizes.get(path, Usage())
        if removed:
            log.info(
                "Deleted %s to keep the quota of %s: %s are now %s.", _workspaces(removed), self._quota, before, used
            )
        if not self._quota.allows(used):
            log.warning(
                "The workspaces take %s, more than their quota of %s, but their scripts run, have only just ended, or "
                "have left what cannot be removed.",
                used,
                self._quota,
            )
        return removed

    async def _remove(self, path: Path) -> bool:
        """True when the workspace is gone; one whose script runs stays."""
        if self._engine.is_running(path.name) or is_watched(path):
            return False
        if await self._engine.discard(path):
            return True
        # By now it has another name, under which every sweep tries it again.
        log.warning("Could not delete workspace %s.", path)
        self._told_of.update(self._engine.workspaces.trash())
        return False

    def _find(self) -> list[Path]:
        for trash in self._engine.workspaces.trash():
            if not remove_tree(trash) and trash not in self._told_of:
                log.warning("Could not delete %s, the rest of a workspace.", trash)
                self._told_of.add(trash)
        limit = self._clock() - self._older_than.total_seconds()
        return [path for path, changed in self._dated() if changed < limit]

    def _measure(self) -> dict[Path, Usage]:
        paths = (*(path for path, _ in self._dated()), *self._engine.workspaces.trash())
        return {path: usage_of(path) for path in paths}

    def _oldest_first(self) -> list[Path]:
        """Those that the quota may cost."""
        limit = self._clock() - STILL_ASKED_FOR.total_seconds()
        return [path for path, changed in sorted(self._dated(), key=lambda one: one[1]) if changed < limit]

    def _dated(self) -> Iterator[tuple[Path, float]]:
        for path in self._engine.workspaces.directories():
            for name in (LOG_FILE, SCRIPT_FILE):
                try:
                    yield path, (path / name).lstat().st_mtime
                except OSError:
                    continue
                break


def usage_of(directory: Path) -> Usage:
    """What the directory and everything in it take.  Follows no link; what has several names counts once."""
    try:
        found = {(status.st_dev, status.st_ino): status.st_blocks for status in entries_below(directory)}
    except OSError:
        return Usage()
    return Usage(sum(found.values()) * _BLOCK, len(found))


def _workspaces(number: int) -> str:
    return f"{number} workspace{'' if number == 1 else 's'}"
