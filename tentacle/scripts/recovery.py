"""What an earlier agent has left below `Work/`, found when the agent starts.

Scripts may have put anything there, and any number of it, and the agent must be able to begin: `Work/` and `.runs` are
listed once, nothing is held in memory or open but what must be followed, and no tree is removed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tentacle.errors import one_line
from tentacle.home_layout import SPOOL
from tentacle.open_files import is_scarce
from tentacle.records import dataclass
from tentacle.scripts.completed_runs import CompletedRuns
from tentacle.scripts.errors import DamagedRunError
from tentacle.scripts.obstacle import is_left_check
from tentacle.scripts.sandbox.sandbox import Sandbox
from tentacle.scripts.workspace.old_layout import has_state, old_runs
from tentacle.scripts.workspace.run_files import ExaminedRun, RunFiles, Stage, run_name
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.workspaces import Workspaces, is_workspace

log = logging.getLogger(__name__)

_MOST_TOLD = 20
"""Damaged runs that the log names."""
_MOST_WAITING = 1000
"""Runs that are started at once.  Others, which scripts may have forged, are started when somebody asks for them."""
_LONGEST_START = 2.0
"""Seconds for which the start of the agent waits."""

AreLeft = Callable[[RunHeader, str], bool]
"""Whether processes may be left of a run without a shim (`Sandbox.are_left`)."""


@dataclass(frozen=True)
class LeftRuns:
    """The names of the runs that must be looked at, and the workspaces of runs of version 0.1."""

    names: tuple[str, ...]
    old: tuple[Path, ...]


class Recovery:
    """Looks once at all that is left, in a thread, and gives `take` what must be followed.  Use from one event loop."""

    def __init__(
        self,
        workspaces: Workspaces,
        completed: CompletedRuns,
        sandbox: Sandbox,
        take: Callable[[list[tuple[RunFiles, ExaminedRun]]], None],
    ) -> None:
        self._workspaces = workspaces
        self._completed = completed
        self._sandbox = sandbox
        self._take = take
        self._task: asyncio.Task[None] | None = None
        self._stopped = threading.Event()

    async def start(self) -> None:
        """Returns at the end, or when it takes long, so that a port can be opened meanwhile.  Raises `OSError`."""
        self._stopped.clear()
        self._task = asyncio.create_task(self._run())
        done, _ = await asyncio.wait({self._task}, timeout=_LONGEST_START)
        if done:
            await self._task
        else:
            log.warning("Very much is left of earlier scripts: requests about scripts wait until it has been looked at")

    async def finished(self) -> None:
        """Returns when everything has been taken over; raises what has kept it from that."""
        if self._task is not None and not self._stopped.is_set():
            await asyncio.shield(self._task)

    async def aclose(self) -> None:
        """Ends it."""
        self._stopped.set()
        if self._task is not None:
            # A thread cannot be cancelled; it looks whether it should end.
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        runs = await asyncio.to_thread(self._look)
        if not self._stopped.is_set():
            self._take(runs)
            return
        for files, _ in runs:
            files.close()

    def _look(self) -> list[tuple[RunFiles, ExaminedRun]]:
        are_left = self._sandbox.are_left()
        return list(unfinished_runs(self._workspaces, self._completed, are_left, self._stopped.is_set))


def find_left_runs(workspaces: Workspaces, completed: CompletedRuns) -> LeftRuns:
    """Loads `completed`, too."""
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
    workspaces: Workspaces, completed: CompletedRuns, are_left: AreLeft, stopped: Callable[[], bool]
) -> Iterator[tuple[RunFiles, ExaminedRun]]:
    """Yields the runs of an earlier agent that must be followed; finishes the removal of completed ones.

    These are all that hold a mutex.  A lost run of which nothing is left ends when somebody asks for it.  Ends early
    when it is `stopped`.
    """
    left = find_left_runs(workspaces, completed)
    old = {files.name: files for files in old_runs(workspaces, left.old[:_MOST_WAITING])}
    damaged = waiting = 0
    for name in dict.fromkeys((*old, *left.names)):
        if stopped():
            return
        files: RunFiles | None = old.get(name)
        try:
            if files is None and not _needs_care(workspaces, completed, name, are_left):
                continue
            files = files or workspaces.runs.open(name)
        except DamagedRunError as error:
            damaged += 1
            if damaged <= _MOST_TOLD:
                log.warning("%s", one_line(error))
            continue
        if files is None:
            continue
        found = files.stage()
        # A completion that was cut off has recorded the exit code first.
        gone = files.completed or (completed.exit_code(name) is not None and found.stage is not Stage.LOST)
        if found.stage is Stage.PREPARED:
            waiting += 1
        if (found.stage is Stage.PREPARED and waiting > _MOST_WAITING) or is_scarce(files.log):
            files.close()
        elif files.lags or found.stage is Stage.RUNNING or not (gone or found.stage is Stage.ENDED):
            yield files, found
        else:
            files.close()
            if gone:
                completed.discard(name, files.workspace)
    if damaged > _MOST_TOLD:
        log.warning("The records of %d more scripts cannot be read", damaged - _MOST_TOLD)
    if waiting > _MOST_WAITING:
        log.warning("%d more scripts wait; they are started when the server asks for them", waiting - _MOST_WAITING)


def _needs_care(workspaces: Workspaces, completed: CompletedRuns, name: str, are_left: AreLeft) -> bool:
    """Whether more than a look at the run is needed: to open a hundred thousand takes a minute."""
    looked = workspaces.runs.look(name)
    if looked is None or completed.exit_code(name) is not None:
        return True
    header, found = looked
    return found.stage is not Stage.LOST or workspaces.runs.is_completed(name) or are_left(header, found.cgroup)
