"""What an earlier agent has left below `Work/`, found before the first request.

Scripts may have put anything there, and any number of it, and the agent must be able to begin: `Work/` and `.runs` are
listed once, nothing is held in memory but what must be followed, and no tree is removed here.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tentacle.errors import one_line
from tentacle.home_layout import SPOOL
from tentacle.scripts.completed_runs import CompletedRuns
from tentacle.scripts.errors import DamagedRunError
from tentacle.scripts.startup_check import is_left_check
from tentacle.scripts.workspace.old_layout import has_state, old_runs
from tentacle.scripts.workspace.run_files import ExaminedRun, RunFiles, Stage, run_name
from tentacle.scripts.workspace.workspaces import Workspaces, is_workspace

log = logging.getLogger(__name__)

_MOST_TOLD = 20
"""Damaged runs that the log names."""


@dataclass(frozen=True)
class LeftRuns:
    """The names of the runs that must be looked at, and the workspaces of runs of version 0.1."""

    names: tuple[str, ...]
    old: tuple[Path, ...]


def find_left_runs(workspaces: Workspaces, completed: CompletedRuns) -> LeftRuns:
    """Raises `ScriptError` when a later version of Tentacle has written here."""
    # First: nothing may be changed where a later version was.
    names = workspaces.runs.unended()
    completed.load()
    half_removed = [name for name in completed.names() if workspaces.runs.exists(name)]
    old: list[Path] = []
    for entry in workspaces.entries():
        # There may be a million, so a path is made only of the few that matter.
        if is_left_check(entry.name):
            # Its directories go to the trash, which the cleaner empties.
            with contextlib.suppress(OSError):
                workspaces.forget(run_name(entry.name), Path(entry.path))
        elif entry.name.startswith(f"{SPOOL}-"):
            workspaces.move_to_trash(Path(entry.path))
        elif is_workspace(entry) and has_state(path := Path(entry.path)):
            old.append(path)
    return LeftRuns(tuple(dict.fromkeys((*names, *half_removed))), tuple(old))


def unfinished_runs(
    workspaces: Workspaces, completed: CompletedRuns, left: LeftRuns
) -> Iterator[tuple[RunFiles, ExaminedRun]]:
    """Yields the runs of an earlier agent that have not ended; finishes the removal of completed ones."""
    old = {files.name: files for files in old_runs(workspaces, left.old)}
    damaged = 0
    for name in dict.fromkeys((*old, *left.names)):
        try:
            files = old.get(name) or workspaces.runs.open(name)
        except DamagedRunError as error:
            damaged += 1
            if damaged <= _MOST_TOLD:
                log.warning("%s", one_line(error))
            continue
        if files is None:
            continue
        found = files.examine()
        # A completion that was cut off has recorded the exit code first.
        gone = files.completed or (completed.exit_code(name) is not None and found.stage is not Stage.LOST)
        if found.stage is Stage.RUNNING or not (gone or found.stage is Stage.ENDED):
            yield files, found
            continue
        files.close()
        if gone:
            completed.discard(name, files.workspace)
    if damaged > _MOST_TOLD:
        log.warning("The records of %d more scripts cannot be read", damaged - _MOST_TOLD)
