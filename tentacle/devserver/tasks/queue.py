"""The queue: takes tasks, runs each by the handler of its type, and makes sure that every one of them ends.

Knows states and time limits; must not know what a task does (see `adhoc` and `health`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tentacle.calling import ends_before
from tentacle.devserver.storage import Clock, NewTask, Task, TaskState, TaskStore, fields
from tentacle.devserver.tasks.task_run import CANCELED, Slots, TaskHandler, TaskResult, TaskRun, TaskType, failed
from tentacle.errors import TentacleError, one_line

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT: Final = 24 * 3600.0
_ALL: Final = "all workers"
GRACE: Final = 60.0
"""Seconds that a task has to end by itself after its time limit."""


@dataclass(frozen=True)
class QueueLimits:
    """`per_worker`: tasks at once on one worker; `at_once`: tasks at once, the task cap; `unfinished`: tasks in all."""

    per_worker: int = 10
    at_once: int = 20
    unfinished: int = 1000


class TooManyTasks(TentacleError):
    """The queue is full."""


class TaskQueue:
    """Runs tasks until `close`."""

    def __init__(
        self, store: TaskStore, handlers: Mapping[TaskType, TaskHandler], clock: Clock, limits: QueueLimits
    ) -> None:
        self._store = store
        self._handlers = {known.name: handler for known, handler in handlers.items()}
        self._resumed = [known.name for known in handlers if known.resumes]
        self._clock = clock
        self.limits = limits
        self._cap = Slots(limits.at_once)
        self._slots = Slots(limits.per_worker)
        self._closed = False
        self._runs: dict[int, tuple[TaskRun, asyncio.Task[None]]] = {}

    async def start(self) -> None:
        """Goes on with what an earlier life of this server has left."""
        why = "The server was stopped while this task was under way."
        for task in await self._store.take_over(why, self._resumed):
            run = TaskRun(task, self._store, self._clock, self._slots, resumed=True)
            run.picked_up = task.state is not TaskState.QUEUED
            if task.state is TaskState.CANCELLING:
                run.cancel.set()
            self._launch(run)

    async def close(self) -> None:
        """Stops watching the tasks; scripts go on where they are."""
        self._closed = True
        under_way = [running for _, running in self._runs.values()]
        for running in under_way:
            running.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def add(self, new: NewTask) -> Task:
        """Queues a task.  Raises `TooManyTasks`."""
        if self._closed:
            raise TooManyTasks("The server is stopping.")
        if len(self._runs) >= self.limits.unfinished:
            raise TooManyTasks(f"There are {len(self._runs)} unfinished tasks already.", hint="Try again later.")
        task = await self._store.add(new)
        self._launch(TaskRun(task, self._store, self._clock, self._slots))
        return task

    def _launch(self, run: TaskRun) -> None:
        task = run.task
        running = asyncio.create_task(self._run(run), name=task.id)
        self._runs[task.number] = run, running

        def forget(done: asyncio.Task[None]) -> None:
            del self._runs[task.number]
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("Task %s failed inside the server", task.id, exc_info=error)

        running.add_done_callback(forget)

    async def cancel(self, number: int) -> None:
        """Asks a task to end; one that has ended stays as it is."""
        if number in self._runs:
            run, _ = self._runs[number]
            await self._store.advance(number, TaskState.CANCELLING)
            run.cancel.set()

    def prioritize(self, number: int) -> None:
        """Lets a task that waits, to begin or for a worker, go before all others; others stay as they are."""
        self._cap.prioritize(number)
        self._slots.prioritize(number)

    def unfinished(self) -> list[Task]:
        return [run.task for run, _ in self._runs.values()]

    async def _run(self, run: TaskRun) -> None:
        result = failed("The server was stopped, or failed, while this task was under way.")
        try:
            if await ends_before(asyncio.ensure_future(self._cap.acquire(_ALL, run.task.number)), run.cancel):
                try:
                    result = await self._result_in_time(run)
                finally:
                    self._cap.release(_ALL)
            else:
                result = CANCELED
        except TentacleError as error:
            result = failed(one_line(error))
        finally:
            if not (self._closed and run.task.name in self._resumed):
                await asyncio.shield(self._end(run, result))

    async def _result_in_time(self, run: TaskRun) -> TaskResult:
        working = asyncio.ensure_future(self._handlers[run.task.name](run))
        limit = run.task.arguments.get("Timeout")
        try:
            await asyncio.wait((working,), timeout=DEFAULT_TIMEOUT if limit is None else fields.seconds(limit))
            if not working.done():
                run.timed_out = True
                run.cancel.set()
                await asyncio.wait((working,), timeout=GRACE)
            result = working.result() if working.done() else TaskResult(TaskState.TIMED_OUT)
        finally:
            working.cancel()
            await asyncio.wait((working,))
        return TaskResult(TaskState.TIMED_OUT, "The task took too long.") if run.timed_out else result

    async def _end(self, run: TaskRun, result: TaskResult) -> None:
        for activity in await self._store.activities(run.task.number):
            if activity.ended is None:
                await self._store.finish(run.task.number, activity.id, result.status)
        await self._store.advance(run.task.number, result.state, error=result.error)
