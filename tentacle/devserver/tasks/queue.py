"""The queue: takes tasks, runs each as its kind says, and sees that every one of them ends.

Knows states and time limits; must not know what a task does (see `adhoc` and `health`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tentacle.contracts.timespan import parse_timespan
from tentacle.devserver.storage.model import Clock, NewTask, Task, TaskState
from tentacle.devserver.storage.task_store import TaskStore
from tentacle.devserver.tasks.task_run import Job, Slots, TaskRun, Verdict
from tentacle.errors import TentacleError, one_line

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT: Final = 24 * 3600.0
GRACE: Final = 60.0
"""Seconds that a task gets to end by itself after it was told to."""


@dataclass(frozen=True)
class Limits:
    """`per_worker`: tasks at once on one worker; `unfinished`: tasks that may wait and run in all."""

    per_worker: int = 10
    unfinished: int = 1000


class TooManyTasks(TentacleError):
    """The queue is full."""


class TaskQueue:
    """Runs tasks until `close`."""

    def __init__(self, store: TaskStore, jobs: Mapping[str, Job], clock: Clock, limits: Limits) -> None:
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._limits = limits
        self._slots = Slots(limits.per_worker)
        self._closed = False
        self._runs: dict[int, tuple[TaskRun, asyncio.Task[None]]] = {}

    async def start(self) -> None:
        await self._store.take_over("The server was stopped while this task was under way.")

    async def close(self) -> None:
        """Stops conducting; scripts go on where they are."""
        self._closed = True
        under_way = [running for _, running in self._runs.values()]
        for running in under_way:
            running.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def add(self, new: NewTask) -> Task:
        """Queues a task.  Raises `TooManyTasks`."""
        if self._closed:
            raise TooManyTasks("The server is stopping.")
        if len(self._runs) >= self._limits.unfinished:
            raise TooManyTasks(f"There are {len(self._runs)} unfinished tasks already.", hint="Try again later.")
        task = await self._store.add(new)
        run = TaskRun(task, self._store, self._clock, self._slots)
        running = asyncio.create_task(self._conduct(run), name=task.id)
        self._runs[task.number] = run, running
        running.add_done_callback(lambda done: self._forget(task.number, done))
        return task

    async def cancel(self, number: int) -> None:
        """Asks a task to end; one that has ended stays as it is."""
        if number in self._runs:
            run, _ = self._runs[number]
            await self._store.advance(number, TaskState.CANCELLING)
            run.cancel.set()

    def unfinished(self) -> list[Task]:
        return [run.task for run, _ in self._runs.values()]

    async def settle(self) -> None:
        """Waits until no task is under way."""
        while self._runs:
            await asyncio.wait([running for _, running in self._runs.values()])
            await asyncio.sleep(0)

    # --- one task ----------------------------------------------------------------------------------------------

    async def _conduct(self, run: TaskRun) -> None:
        verdict = Verdict(TaskState.FAILED, "The server was stopped, or failed, while this task was under way.")
        try:
            verdict = await self._run_limited(run)
        except TentacleError as error:
            verdict = Verdict(TaskState.FAILED, one_line(error))
        finally:
            await asyncio.shield(self._end(run, verdict))

    async def _end(self, run: TaskRun, verdict: Verdict) -> None:
        for activity in await self._store.activities(run.task.number):
            if activity.ended is None:
                await self._store.finish(run.task.number, activity.id, verdict.status)
        await self._store.advance(run.task.number, verdict.state, error=verdict.error)

    async def _run_limited(self, run: TaskRun) -> Verdict:
        job = self._jobs[run.task.name]
        working = asyncio.ensure_future(job(run))
        try:
            await asyncio.wait((working,), timeout=time_limit(run.task))
            if not working.done():
                run.timed_out = True
                run.cancel.set()
                await asyncio.wait((working,), timeout=GRACE)
            verdict = working.result() if working.done() else Verdict(TaskState.TIMED_OUT)
        finally:
            working.cancel()
            await asyncio.wait((working,))
        return Verdict(TaskState.TIMED_OUT, "The task took too long.") if run.timed_out else verdict

    def _forget(self, number: int, done: asyncio.Task[None]) -> None:
        del self._runs[number]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("Task ServerTasks-%s failed inside the server", number, exc_info=error)


def time_limit(task: Task) -> float:
    """Seconds that a task may take, by its own argument `Timeout`."""
    span = task.arguments.get("Timeout")
    return DEFAULT_TIMEOUT if span is None else parse_timespan(str(span)).total_seconds()
