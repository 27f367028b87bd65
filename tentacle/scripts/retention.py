"""Removes old workspaces that were never completed (docs/spec/services.md, "Workspace cleaner"), and more of them when
there is a quota.

A run's age counts from its end, by a clock that does not step, and as long as the machine runs (`workspace/boots.py`).
A directory that is not a run of this agent is a workspace if it holds a log or a script with the original's name; its
age is that file's when it is first seen, and grows by the same clock from then on, also when that file seems to be of
the future.  The sweep leaves alone everything else below the work directory, every script that still runs and every
target of a symbolic link.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import stat
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from tentacle.disk import file_size
from tentacle.records import dataclass
from tentacle.scripts.engine import ScriptEngine
from tentacle.scripts.shim.clock import BOOT, BOOT_IS_KNOWN, since_boot_ms
from tentacle.scripts.workspace.boots import BootLedger
from tentacle.scripts.workspace.removal import RemovalStoppedError, entries_below
from tentacle.scripts.workspace.run_files import ExaminedRun, run_name

log = logging.getLogger(__name__)

STILL_ASKED_FOR = timedelta(minutes=10)
"""How long after its end a run is kept despite the quota: its result may not have been fetched yet."""
_BLOCK = 512
_TOUCH = timedelta(hours=1)


@dataclass(frozen=True)
class Removable:
    """A workspace, which may be missing, and the files of the run of that `name`.

    `silent` is the time in seconds since the script's last sign of life.
    """

    name: str
    workspace: Path
    silent: float


@dataclass(frozen=True)
class Usage:
    """What a directory occupies on its disk: bytes, in whole blocks, and inodes."""

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
    """What all workspaces together may occupy; `None` is no limit."""

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
    """Sweeps the workspaces of `engine` at once, then each time `every` has passed.

    `clock` returns seconds since 1970, `since_boot` milliseconds of a clock that does not step.
    """

    def __init__(
        self,
        engine: ScriptEngine,
        *,
        older_than: timedelta,
        every: timedelta,
        quota: Quota | None = None,
        clock: Callable[[], float] = time.time,
        since_boot: Callable[[], int] = since_boot_ms,
    ) -> None:
        self._engine = engine
        self._older_than = older_than
        self._every = every
        self._quota = quota or Quota()
        self._clock = clock
        self._since_boot = since_boot
        self._boots = BootLedger(engine.workspaces.runs.path, since_boot)
        self._seen: dict[Path, tuple[float, float]] = {}
        """When each file by whose time something is judged was last written, as seconds since 1970 and by `since_boot`,
        when the sweep began that saw it first.
        """
        self._reported: set[Path] = set()
        """What could not be removed: each sweep tries again, but logs it only once."""

    async def run(self) -> None:
        """Sweeps until the engine is closed.

        In between it touches the workspaces in use, so that foreign sweepers leave them alone.
        """
        while True:
            try:
                await self.sweep()
            except RemovalStoppedError:
                return
            left = self._every.total_seconds()
            while left > 0:
                self._engine.touch_running()
                await asyncio.to_thread(self._boots.note)
                pause = min(left, _TOUCH.total_seconds())
                await asyncio.sleep(pause)
                left -= pause

    async def sweep(self) -> int:
        """Removes what is too old, then what exceeds the quota; returns the number of workspaces removed."""
        log.debug("Cleaning workspaces older than %s", self._older_than)
        await asyncio.to_thread(self._empty_trash)
        removed = 0
        for kept in await asyncio.to_thread(lambda: list(self._removable())):
            if kept.silent > self._older_than.total_seconds():
                removed += await self._remove(kept)
        if removed:
            log.info("Deleted %s.", _workspaces(removed))
        else:
            log.debug("No workspaces found that need to be deleted.")
        return removed + (await self._make_room() if self._quota else 0)

    async def _make_room(self) -> int:
        """Removes workspaces, those silent for the longest time first, until the quota is met."""
        work, runs = self._engine.workspaces.work, self._engine.workspaces.runs
        before = used = await asyncio.to_thread(usage_of, work)
        removed = 0
        if not self._quota.allows(used):
            kept = await asyncio.to_thread(lambda: sorted(self._removable(), key=lambda one: -one.silent))
            for one in kept:
                if self._quota.allows(used) or one.silent <= STILL_ASKED_FOR.total_seconds():
                    break
                size = await asyncio.to_thread(usage_of, one.workspace, *runs.paths(one.name))
                if await self._remove(one):
                    removed += 1
                    used -= size
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

    async def _remove(self, kept: Removable) -> bool:
        """Removes a workspace unless its script runs; returns whether it is gone."""
        if self._engine.is_live(kept.name) or self._engine.workspaces.runs.is_held(kept.name):
            return False
        left = self._engine.discard(kept.name, kept.workspace)
        gone = [await asyncio.to_thread(self._engine.completed.remove_tree, path) for path in left]
        if all(gone):
            return True
        # It is in the trash by now, and every sweep tries that again.
        log.warning("Could not delete workspace %s.", kept.workspace)
        self._reported.update(self._engine.workspaces.trash())
        return False

    def _empty_trash(self) -> None:
        for trash in self._engine.workspaces.trash():
            if not self._engine.completed.remove_tree(trash) and trash not in self._reported:
                log.warning("Could not delete %s, the rest of a workspace.", trash)
                self._reported.add(trash)

    def _removable(self) -> Iterator[Removable]:
        workspaces = self._engine.workspaces
        runs = set()
        for name in workspaces.runs.names():
            found = workspaces.runs.look(name)
            # The ticket of a damaged run is unknown, so its workspace is treated as a foreign directory.
            workspace = workspaces.work / found[0].ticket if found else workspaces.runs.path / name
            silent = self._silent(name, None if found is None else found[1])
            if silent is not None:
                runs.add(name)
                yield Removable(name, workspace, silent)
        for directory in workspaces.directories():
            changed = workspaces.changed(directory)
            if changed is not None and run_name(directory.name) not in runs:
                yield Removable(run_name(directory.name), directory, self._unchanged(directory, changed))

    def _silent(self, name: str, found: ExaminedRun | None) -> float | None:
        """Returns the seconds since the run's last sign of life; `None` when it has just been removed."""
        latest = math.inf
        if found is not None and found.result is not None:
            age = self._boots.age(found.result.boot, found.result.since_boot)
            if age is not None:
                return age / 1000
            if found.result.boot != BOOT and BOOT_IS_KNOWN:
                # It ended before the machine was started.
                latest = self._since_boot() / 1000
        for path in (self._engine.workspaces.runs.log_path(name), self._engine.workspaces.runs.run_path(name)):
            try:
                return min(self._unchanged(path, path.lstat().st_mtime), latest)
            except OSError:
                continue
        return None

    def _unchanged(self, path: Path, changed: float) -> float:
        """Returns for how many seconds the file, last written at `changed`, has not been written."""
        now = self._since_boot() / 1000
        seen = self._seen.get(path)
        if seen is None or seen[0] != changed:
            seen = self._seen[path] = changed, now - max(self._clock() - changed, 0)
        return now - seen[1]


def usage_of(*paths: Path) -> Usage:
    """Returns what the files, and the directories with everything in them, occupy.

    Follows no symbolic link.  A file with several names counts once, a missing one not at all.
    """
    shared: set[tuple[int, int]] = set()
    blocks = inodes = 0
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.lstat()
            for one in entries_below(path) if stat.S_ISDIR(status.st_mode) else [status]:
                if one.st_nlink > 1 and not stat.S_ISDIR(one.st_mode):
                    identity = one.st_dev, one.st_ino
                    if identity in shared:
                        continue
                    shared.add(identity)
                blocks, inodes = blocks + one.st_blocks, inodes + 1
    return Usage(blocks * _BLOCK, inodes)


def _workspaces(number: int) -> str:
    return f"{number} workspace{'' if number == 1 else 's'}"
