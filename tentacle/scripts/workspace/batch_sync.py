"""Makes the files of new runs and syncs them to the disk, those of all waiting starts together.

One commit of the file system's journal takes as long for many files as for one, and a thread for each of them would
cost more than the commit.  Making a file waits too while the disk is busy, and the event loop must not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tentacle.disk import flush_directory, sync
from tentacle.late_imports import LateModule
from tentacle.scripts.errors import WorkspaceNotPreparedError
from tentacle.scripts.workspace.run_files import RunFiles

if TYPE_CHECKING:
    import asyncio

    from tentacle import write_back
else:  # which a command that looks at workspaces does not need
    asyncio = LateModule("asyncio")
    write_back = LateModule("tentacle.write_back")

Prepare = Callable[[], RunFiles]


class BatchSync:
    """Syncs new `.run` files of `directory`, and the directory.  Use from one event loop."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._waiting: list[tuple[Prepare, asyncio.Future[RunFiles]]] = []
        self._task: asyncio.Task[None] | None = None

    async def make(self, prepare: Prepare) -> RunFiles:
        """Calls `prepare` in a thread; returns its run when the `.run` file and its name are on the disk.

        Raises what `prepare` raises.  Removes the files and raises `WorkspaceNotPreparedError` when they cannot be
        synced.
        """
        made: asyncio.Future[RunFiles] = asyncio.get_running_loop().create_future()
        self._waiting.append((prepare, made))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await made

    async def aclose(self) -> None:
        """Waits until all pending runs are made."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            work = asyncio.to_thread(_make_all, [prepare for prepare, _ in batch], self._directory)
            # There may be no thread for it, under a limit of tasks say: then those who wait must hear of it.
            (done,) = await asyncio.gather(work, return_exceptions=True)
            runs = [done] * len(batch) if isinstance(done, BaseException) else done
            for (_, made), run in zip(batch, runs, strict=True):
                if made.done():
                    # The caller was cancelled.  The run stays for the next agent.
                    if isinstance(run, RunFiles):
                        run.close()
                elif isinstance(run, RunFiles):
                    made.set_result(run)
                else:
                    made.set_exception(run)
        self._task = None


def _make_all(prepares: Sequence[Prepare], directory: Path) -> list[RunFiles | Exception]:
    """Returns the synced run of each start, or why there is none."""
    runs: list[RunFiles | Exception] = []
    for prepare in prepares:
        try:
            runs.append(prepare())
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this start alone
            runs.append(error)
    failures = _sync([run for run in runs if isinstance(run, RunFiles)], directory)
    for run, failure in failures.items():
        with contextlib.suppress(OSError):
            run.remove()
        why = f"{failure.strerror}: '{run.run_path}'"
        refused = WorkspaceNotPreparedError(run.workspace, why)
        refused.__cause__ = failure
        runs[runs.index(run)] = refused
    return runs


def _sync(runs: Sequence[RunFiles], directory: Path) -> dict[RunFiles, OSError]:
    """Syncs the runs and their directory; returns the errors."""
    if len(runs) > 1:
        for run in runs:
            # Starts the writes of all files before waiting for one, so that the first journal commit covers all.
            write_back.start_writing(run.run)
    failures = {}
    for run in runs:
        try:
            sync(run.run)
        except OSError as error:
            failures[run] = error
    try:
        if runs:
            flush_directory(directory)
    except OSError as error:
        return dict.fromkeys(runs, error) | failures
    return failures
