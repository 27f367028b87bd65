"""What lies below a work directory: the scripts that run or wait, and how much room everything takes.

Reads the files that runs keep of themselves, so the answer is true with and without an agent.  Must not change or lock
anything.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tentacle.scripts.workspace.run_files import RunDirectory, Stage
from tentacle.scripts.workspace.workspaces import Workspaces

SECONDS: Final = 2.0
"""How long sizes are added up; a directory of millions of files is told as `at least`."""


@dataclass(frozen=True)
class Script:
    """One script that has not ended: its ticket, whether it waits for its lock, since when (seconds since 1970)."""

    ticket: str
    waits: bool
    since: float
    pid: int | None


@dataclass(frozen=True)
class Workload:
    """`size` is in bytes; with `cut` there is more, of both.  `problem`: why something could not be looked at."""

    scripts: tuple[Script, ...] = ()
    workspaces: int = 0
    size: int = 0
    cut: bool = False
    problem: str | None = None


@dataclass
class _Sum:
    """Sizes added up until the time is over."""

    until: float
    clock: Callable[[], float]
    size: int = 0
    cut: bool = field(default=False)

    def add(self, folder: Path) -> None:
        for directory, _, files, descriptor in os.fwalk(folder, onerror=self._missed, follow_symlinks=False):
            del directory
            for name in files:
                try:
                    self.size += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_blocks * 512
                except OSError:
                    continue
            if self.clock() > self.until:
                self.cut = True
                return

    def _missed(self, error: OSError) -> None:
        self.cut = self.cut or isinstance(error, PermissionError)


def workload(work: Path, *, clock: Callable[[], float] = time.monotonic) -> Workload:
    """What lies below `work`; nothing when there is no such directory."""
    workspaces = Workspaces(work)
    try:
        directories = sorted(workspaces.directories())
        scripts = tuple(_scripts(workspaces.runs))
    except OSError as error:
        return Workload(problem=f"{error.filename or work}: {error.strerror}")
    total = _Sum(clock() + SECONDS, clock)
    for folder in (*directories, workspaces.runs.path):
        if not total.cut:
            total.add(folder)
    return Workload(scripts, len(directories), total.size, total.cut)


def _scripts(runs: RunDirectory) -> Iterator[Script]:
    for name in sorted(runs.names()):
        found = runs.look(name)
        if found is not None and found[1].stage in {Stage.RUNNING, Stage.PREPARED}:
            header, finding = found
            running = finding.stage is Stage.RUNNING
            yield Script(header.ticket, not running, header.created / 1000, finding.pid if running else None)
