"""What remains of runs that were completed: their exit codes for an hour, and the lock of those that still run.

A completed run is remembered first, then its workspace is put away, then its log goes, then its `.run` file: whatever
the agent dies over, the next one knows that nobody will ask for it any more.
"""

from __future__ import annotations

from pathlib import Path

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.scripts.run import Run, Step
from tentacle.scripts.sandbox.sandbox import Sandbox
from tentacle.scripts.workspace.finished import FinishedTickets
from tentacle.scripts.workspace.trash import TrashRemover
from tentacle.scripts.workspace.workspaces import Workspaces


class CompletedRuns:
    """Runs go by the name that their files have (`run_files.run_name`).  Use from one event loop."""

    def __init__(self, workspaces: Workspaces, sandbox: Sandbox) -> None:
        self._workspaces = workspaces
        self._sandbox = sandbox
        self._finished = FinishedTickets(workspaces.runs.path)
        self._trash = TrashRemover()
        self._running: dict[str, Run] = {}

    def load(self) -> None:
        """Takes over what an earlier agent has remembered."""
        self._finished.load()

    def remove_trash(self) -> None:
        """Has everything removed soon that an earlier agent has put away."""
        for path in self._workspaces.trash():
            self._trash.add(path)

    async def aclose(self) -> None:
        """Lets go of everything; scripts that run, run on."""
        for run in self._running.values():
            await run.detach()
        self._running.clear()
        await self._trash.aclose()

    async def drained(self) -> None:
        """Returns when everything that was put away has been removed."""
        await self._trash.drained()

    @property
    def running(self) -> tuple[Run, ...]:
        """The completed runs whose script has not ended."""
        return tuple(self._running.values())

    def is_running(self, name: str) -> bool:
        return name in self._running

    def exit_code(self, name: str) -> int | None:
        """Returns how a run of the last hour ended, as far as that is known; `None` for any other."""
        code = self._finished.get(name)
        return ScriptExitCode.UNKNOWN_RESULT if code is None and name in self._running else code

    async def complete(self, run: Run) -> None:
        """Forgets the run.  Its script is not ended by this; one that waits for its lock will not start any more."""
        if run.step in (Step.LAUNCHING, Step.RUNNING):
            self._finished.add(run.files.name, ScriptExitCode.UNKNOWN_RESULT)
            run.files.mark_completed()
            self.follow(run)
        else:
            await run.detach()
            self._forget(run, ScriptExitCode.CANCELLED)

    def complete_damaged(self, name: str, workspace: Path) -> None:
        """Forgets a run whose files cannot be read."""
        self._finished.add(name, ScriptExitCode.UNKNOWN_RESULT)
        self.remove(name, workspace)

    def follow(self, run: Run) -> None:
        """Keeps a completed run that has not ended, for the sake of its lock."""
        self._running[run.files.name] = run
        run.when_ended = self._ended
        if (left := self._workspaces.move_to_trash(run.files.workspace)) is not None:
            self._trash.add(left)

    def discard(self, name: str, workspace: Path) -> list[Path]:
        """Forgets a run whose script does not run; returns the directories that must then be removed.

        Raises `OSError`.
        """
        found = self._workspaces.runs.look(name)
        if found is not None and found[1].result is not None:
            self._finished.add(name, found[1].result.exit_code)
        return self._workspaces.forget(name, workspace)

    def remove(self, name: str, workspace: Path) -> None:
        """Removes what there is of a run, or has it removed soon: whoever waits need not wait for a whole tree."""
        for left in self._workspaces.forget(name, workspace):
            self._trash.add(left)

    def _ended(self, run: Run) -> None:
        self._running.pop(run.files.name, None)
        self._forget(run, ScriptExitCode.UNKNOWN_RESULT)

    def _forget(self, run: Run, unended: int) -> None:
        self._finished.add(run.files.name, unended if run.result is None else run.result.exit_code)
        self._sandbox.forget(run.files)
        self.remove(run.files.name, run.files.workspace)
