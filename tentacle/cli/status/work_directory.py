"""What lies below a work directory: the scripts that have not ended, and how much room all workspaces take.

Reads the files that runs keep of themselves, so the answer is right with and without an agent.  Must not change or lock
anything.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tentacle.records import dataclass
from tentacle.scripts.workspace.run_files import Stage
from tentacle.scripts.workspace.workspaces import Workspaces

LONGEST_COUNT: Final = 2.0
"""Seconds after which sizes are no longer added up: a directory of millions of files is shown as `at least`."""


@dataclass(frozen=True)
class UnfinishedScript:
    """One script that has not ended.  `waits`: for its mutex; `since` in seconds since 1970; `pid` while it runs."""

    ticket: str
    waits: bool
    since: float
    pid: int | None


@dataclass(frozen=True)
class WorkDirectory:
    """`size` is in bytes; `complete` is false when there is more.  `problem` says why nothing could be looked at."""

    scripts: tuple[UnfinishedScript, ...] = ()
    workspaces: int = 0
    size: int = 0
    complete: bool = True
    problem: str | None = None


def read_work_directory(work: Path, *, clock: Callable[[], float] = time.monotonic) -> WorkDirectory:
    """What lies below `work`; nothing when there is no such directory."""
    workspaces = Workspaces(work)
    scripts = []
    try:
        folders = sorted(workspaces.directories())
        names = sorted(workspaces.runs.names())
    except OSError as error:
        is_wrong = isinstance(error, NotADirectoryError) and not work.is_dir()
        return WorkDirectory(problem=f"{work if is_wrong else error.filename or work}: {error.strerror}")
    for name in names:
        found = workspaces.runs.look(name)
        if found is not None and found[1].stage in {Stage.RUNNING, Stage.PREPARED}:
            header, finding = found
            running = finding.stage is Stage.RUNNING
            since = header.created / 1000
            scripts.append(UnfinishedScript(header.ticket, not running, since, finding.pid if running else None))
    size, complete = total_size(folders, clock)
    # Not the whole directory of runs: it also holds the list of tickets that have finished.
    for path in (path for name in names for path in workspaces.runs.paths(name)):
        with suppress(OSError):
            size += path.lstat().st_blocks * 512
    return WorkDirectory(tuple(scripts), len(folders), size, complete)


def total_size(folders: Sequence[Path], clock: Callable[[], float]) -> tuple[int, bool]:
    """The bytes on the disk that `folders` take, and whether those are all of them.

    They are not when the time was over before, or a directory could not be opened, or they are nested too deeply.
    """
    until = clock() + LONGEST_COUNT
    size, complete = 0, True

    def missed(error: OSError) -> None:
        nonlocal complete
        complete = complete and not isinstance(error, PermissionError)

    for folder in folders:
        try:
            for _directory, _folders, files, descriptor in os.fwalk(folder, onerror=missed, follow_symlinks=False):
                for name in files:
                    with suppress(OSError):
                        size += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_blocks * 512
                if clock() > until:
                    return size, False
        except RecursionError:
            return size, False
        except OSError as error:
            # Of the folder itself, which may have been removed since it was listed, the walk tells by raising.
            missed(error)
    return size, complete
