"""What a task sees of the server while it runs: its log, its activities, its cancellation, its slots.

Knows the task store; must not know what kinds of tasks there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from tentacle.contracts.script import ProcessOutput
from tentacle.devserver.storage.model import ActivityStatus, Clock, LogEntry, Task, TaskState, iso
from tentacle.devserver.storage.task_store import TaskStore
from tentacle.devserver.tasks.service_messages import LogParser, Progress
from tentacle.devserver.worker.waiting import ends_before

MAX_LOG: Final = 256 * 2**20
"""Characters of log that one task may store."""


@dataclass(frozen=True)
class Verdict:
    """How a task, or one worker's part of it, ended."""

    state: TaskState
    error: str = ""

    @property
    def status(self) -> ActivityStatus:
        if self.state is TaskState.SUCCESS:
            return ActivityStatus.SUCCESS
        return ActivityStatus.CANCELED if self.state is TaskState.CANCELED else ActivityStatus.FAILED


SUCCESS: Final = Verdict(TaskState.SUCCESS)
CANCELED: Final = Verdict(TaskState.CANCELED, "The task was canceled.")


class Slots:
    """At most so many tasks at once on one worker; the others wait in their order."""

    def __init__(self, per_worker: int) -> None:
        self._per_worker = per_worker
        self._slots: dict[str, asyncio.Semaphore] = {}

    def of(self, machine: str) -> asyncio.Semaphore:
        return self._slots.setdefault(machine, asyncio.Semaphore(self._per_worker))


@dataclass
class TaskRun:
    """One task under way.  `cancel` is set when somebody wants it to end, `picked_up` when work really began."""

    task: Task
    store: TaskStore
    clock: Clock
    slots: Slots
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    timed_out: bool = False
    _room: int = MAX_LOG
    _picked_up: bool = False

    async def pick_up(self) -> None:
        """Says that the task no longer waits.  May be called by each of its parts."""
        if not self._picked_up:
            self._picked_up = True
            await self.store.advance(self.task.number, TaskState.EXECUTING)

    @asynccontextmanager
    async def slot(self, machine: str) -> AsyncIterator[bool]:
        """Waits for a slot on a machine; gives False when the task is cancelled before there is one."""
        slot = self.slots.of(machine)
        got = await ends_before(asyncio.ensure_future(slot.acquire()), self.cancel)
        try:
            if got:
                await self.pick_up()
            yield got
        finally:
            if got:
                slot.release()

    async def begin(self, name: str, parent: str | None) -> str:
        return await self.store.begin(self.task.number, name, parent)

    async def finish(self, activity: str, verdict: Verdict) -> None:
        await self.store.finish(self.task.number, activity, verdict.status)

    async def write(self, activity: str, category: str, text: str) -> None:
        """One line of the server's own."""
        await self.append(activity, [LogEntry(category, text, iso(self.clock()))])

    async def append(self, activity: str, entries: Sequence[LogEntry]) -> None:
        """Lines in their order; what is over the limit of a task is dropped, and the log says so once."""
        if self._room < 0:
            return
        kept = []
        for entry in entries:
            self._room -= len(entry.text) + 64
            if self._room < 0:
                kept.append(
                    LogEntry("Warning", "The log of this task is too long; the rest is dropped.", entry.occurred)
                )
                break
            kept.append(entry)
        await self.store.append(self.task.number, activity, kept)

    def reporter(self, activity: str) -> Callable[[str], Awaitable[None]]:
        """Writes what the calling side has to say as verbose lines."""

        async def report(text: str) -> None:
            await self.write(activity, "Verbose", text)

        return report


@dataclass
class ScriptLog:
    """Takes the pages of one script's log to one activity."""

    run: TaskRun
    activity: str
    parser: LogParser = field(default_factory=LogParser)
    _progress: Progress | None = None

    async def observe(self, outputs: Sequence[ProcessOutput]) -> None:
        await self.run.append(self.activity, self.parser.parse(outputs))
        progress = self.parser.progress
        if progress is not None and progress != self._progress:
            self._progress = progress
            number = self.run.task.number
            await self.run.store.progress(number, self.activity, progress.percentage, progress.message)


class Job(Protocol):
    """One kind of task."""

    async def __call__(self, run: TaskRun) -> Verdict: ...
