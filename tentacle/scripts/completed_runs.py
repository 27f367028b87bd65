"""What the agent keeps of completed runs: their exit codes for an hour, and the mutex of those that still run.

The steps of a completion have a fixed order: the exit code is recorded, the workspace is moved to the trash, the log is
removed, the `.run` file is removed.  So an agent that dies between two steps leaves enough for the next one to know
that the run was completed.
"""

from __future__ import annotations

from pathlib import Path

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.scripts.run import Run, Step
from tentacle.scripts.sandbox.sandbox import Sandbox
from tentacle.scripts.workspace.finished import FinishedTickets
from tentacle.scripts.workspace.trash import TrashRemover
from tentacle.scripts.workspace.workspaces import Workspaces

_BIG_LOG = 1024 * 1024
"""Bytes of a log that must have gone when the next script is started, or it might find no room."""


class CompletedRuns:
    """Identifies runs by the name of their files (`run_files.run_name`).  Use from one event loop."""

    def __init__(self, workspaces: Workspaces, sandbox: Sandbox) -> None:
        self._workspaces = workspaces
        self._sandbox = sandbox
        self._finished = FinishedTickets(workspaces.runs.path)
        self._trash = TrashRemover(workspaces)
        self._running: dict[str, Run] = {}

    def load(self) -> None:
        """Reads the exit codes that an earlier agent recorded."""
        self._finished.load()
        self._trash.reopen()

    async def aclose(self) -> None:
        """Stops following the runs; scripts that run continue."""
        for run in self._running.values():
            await run.detach()
        self._running.clear()
        await self._trash.aclose()
        self._finished.close()

    async def drained(self) -> None:
        """Returns when the trash is empty."""
        await self._trash.drained()

    def names(self) -> tuple[str, ...]:
        """Returns the names of the runs that were completed in the last hour."""
        return self._finished.names()

    def remove_tree(self, path: Path) -> bool:
        """Removes a directory; returns whether it is gone.  Call from a thread.

        It takes its time, and raises `RemovalStoppedError` when this object is closed.
        """
        return self._trash.remove(path)

    @property
    def running(self) -> tuple[Run, ...]:
        """The completed runs whose script has not ended."""
        return tuple(self._running.values())

    def is_running(self, name: str) -> bool:
        return name in self._running

    def exit_code(self, name: str) -> int | None:
        """Returns the exit code of a run that was completed in the last hour; `None` for any other.

        It is `UNKNOWN_RESULT` as long as the script has not ended.
        """
        code = self._finished.get(name)
        return ScriptExitCode.UNKNOWN_RESULT if code is None and name in self._running else code

    async def complete(self, run: Run) -> None:
        """Forgets the run.  Does not end a running script.  One that waits for its mutex will not start any more."""
        if run.step in (Step.LAUNCHING, Step.RUNNING):
            self._finished.add(run.files.name, ScriptExitCode.UNKNOWN_RESULT)
            run.files.mark_completed()
            self.follow(run)
        else:
            if run.step is Step.WAITING:
                # First, so that another call does not find the run again while this one waits.
                self._finished.add(run.files.name, ScriptExitCode.CANCELLED)
                run.files.mark_completed()
            await run.detach()
            self._forget(run, ScriptExitCode.CANCELLED)

    def complete_damaged(self, name: str, workspace: Path) -> None:
        """Forgets a run whose files cannot be read."""
        self._finished.add(name, ScriptExitCode.UNKNOWN_RESULT)
        self.remove(name, workspace)

    def follow(self, run: Run) -> None:
        """Keeps a completed run until its script ends, because it holds its mutex until then."""
        self._running[run.files.name] = run
        run.when_ended = self._ended
        if run.files.lives_in_workspace:
            return
        if (left := self._workspaces.move_to_trash(run.files.workspace)) is not None:
            self._trash.add(left)

    def discard(self, name: str, workspace: Path) -> list[Path]:
        """Forgets a run whose script does not run; returns the directories that the caller must remove.

        Raises `OSError`.
        """
        found = self._workspaces.runs.look(name)
        if found is not None and found[1].result is not None:
            self._finished.add(name, found[1].result.exit_code)
        return self._workspaces.forget(name, workspace)

    def remove(self, name: str, workspace: Path) -> None:
        """Removes what there is under the name of a run, and of its workspace; directories go to the trash."""
        for left in self._workspaces.forget(name, workspace):
            self._trash.add(left)

    def _ended(self, run: Run) -> None:
        self._running.pop(run.files.name, None)
        self._forget(run, ScriptExitCode.UNKNOWN_RESULT)

    def _forget(self, run: Run, code_without_result: int) -> None:
        code = code_without_result if run.result is None else run.result.exit_code
        written = self._finished.add(run.files.name, code)
        self._sandbox.remove_cgroup(run.files)
        workspace = run.files.workspace
        if not written:
            # On a full disk the `.run` file alone tells the next agent that the script has run: it stays.
            run.files.log_path.unlink(missing_ok=True)
            self._trash.add(self._workspaces.move_to_trash(workspace) or workspace)
        elif run.files.log_size() > _BIG_LOG:
            self.remove(run.files.name, workspace)
        else:
            # Its files can wait: it is remembered that the run is over.
            self._trash.add(self._workspaces.move_to_trash(workspace) or workspace, run.files.name)
