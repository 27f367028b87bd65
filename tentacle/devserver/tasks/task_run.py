"""What a task sees of the server while it runs: its log, its activities, its cancellation, its slots.

Knows the task store; must not know what types of tasks there are.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from tentacle.calling import ScriptOrder, ScriptProgress, ends_before
from tentacle.contracts.file_transfer import UploadResult
from tentacle.contracts.script import ProcessOutput, ScriptTicket
from tentacle.devserver.storage import ActivityStatus, Clock, Json, LogEntry, Resource, Task, TaskState, TaskStore, iso
from tentacle.devserver.tasks.service_messages import Artifact, OutputParser
from tentacle.devserver.worker import Client
from tentacle.masking import Mask, forms, worth_masking

MAX_LOG: Final = 256 * 2**20
"""Characters of log that one task may store."""

_STATUS: Final = {TaskState.SUCCESS: ActivityStatus.SUCCESS, TaskState.CANCELED: ActivityStatus.CANCELED}


@dataclass(frozen=True)
class TaskType:
    """A type of task by the API's name; `read_arguments` returns the arguments to keep and raises `Invalid`.

    One that `resumes` goes on when the server is started again.
    """

    name: str
    description: str
    read_arguments: Callable[[Any], Json]
    resumes: bool = False


@dataclass(frozen=True)
class TaskResult:
    """How a task, or one machine's part of it, ended."""

    state: TaskState
    error: str = ""

    @property
    def status(self) -> ActivityStatus:
        return _STATUS.get(self.state, ActivityStatus.FAILED)


SUCCESS: Final = TaskResult(TaskState.SUCCESS)
CANCELED: Final = TaskResult(TaskState.CANCELED, "The task was canceled.")


class Canceled(Exception):
    """Ends the part of a task that one machine has, where the task is cancelled."""


def failed(error: str) -> TaskResult:
    return TaskResult(TaskState.FAILED, error)


def named(machines: Sequence[Resource], ids: Sequence[str]) -> list[Resource]:
    """Returns the machines with these ids; upper and lower case are the same."""
    wanted = {machine_id.lower() for machine_id in ids}
    return [machine for machine in machines if machine.id.lower() in wanted]


class Slots:
    """At most so many tasks at once on one worker; the others wait in their order, those with priority before them."""

    def __init__(self, per_worker: int) -> None:
        self._per_worker = per_worker
        self._used: Counter[str] = Counter()
        self._waiting: defaultdict[str, list[tuple[int, asyncio.Future[None]]]] = defaultdict(list)

    async def acquire(self, machine: str, task: int) -> None:
        if self._used[machine] < self._per_worker:
            self._used[machine] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[machine].append((task, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(machine)
            raise

    def release(self, machine: str) -> None:
        """Gives the slot to who waits first."""
        waiting = self._waiting[machine]
        while waiting:
            _, turn = waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
                return
        self._used[machine] -= 1

    def prioritize(self, task: int) -> None:
        """Lets a task that waits go first, wherever it waits."""
        for waiting in self._waiting.values():
            waiting.sort(key=lambda waiter: waiter[0] != task)


@dataclass
class TaskRun:
    """One task under way.  `cancel` is set when it must end, `timed_out` when its time limit is the reason.

    `resumed`: an earlier life of this server began it, and it goes on with what that has noted.
    """

    task: Task
    store: TaskStore
    clock: Clock
    slots: Slots
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    timed_out: bool = False
    resumed: bool = False
    picked_up: bool = False
    mask: Mask = field(default_factory=Mask, repr=False)
    """What is covered in all that is written from now on."""
    _room: int = MAX_LOG

    def hide(self, secrets: Iterable[str]) -> None:
        """Has these values masked in all that is written from now on."""
        if found := list(worth_masking(secrets)):
            self.mask = Mask([form for secret in found for form in forms(secret)], [self.mask])

    async def pick_up(self) -> None:
        """Notes that the task no longer waits.  May be called by each of its parts."""
        if not self.picked_up:
            self.picked_up = True
            await self.store.advance(self.task.number, TaskState.EXECUTING)

    @asynccontextmanager
    async def slot(self, machine: str, slots: Slots | None = None) -> AsyncIterator[None]:
        """Waits for a slot on a machine.  Raises `Canceled` when the task is cancelled before there is one."""
        slots = slots or self.slots
        waiting = asyncio.ensure_future(slots.acquire(machine, self.task.number))
        if self.resumed:
            # What may run on the machine already has to be ended there, too.
            await waiting
        elif not await ends_before(waiting, self.cancel):
            raise Canceled
        try:
            await self.pick_up()
            yield
        finally:
            slots.release(machine)

    async def uploaded(self, client: Client, remote: str, local: Path) -> UploadResult:
        """Copies a file to a worker.  Raises `Canceled` and `WorkerCallFailed`."""
        sending = asyncio.ensure_future(client.upload(remote, local))
        if not await ends_before(sending, self.cancel):
            raise Canceled
        return sending.result()

    async def begin(self, name: str, parent: str | None) -> str:
        """Begins an activity and returns its id."""
        return await self.store.begin(self.task.number, name, parent, again=self.resumed)

    async def on_each(
        self,
        machines: Sequence[Resource],
        parent: str,
        title: str,
        work: Callable[[TaskRun, str, Resource], Awaitable[TaskResult]],
    ) -> TaskResult:
        """Does `work(run, activity, machine)` on all machines at once, each in an activity of its own.

        Returns the first result that is bad, cancellation first; that may be a `Canceled`, too.
        """

        async def part(machine: Resource) -> TaskResult:
            activity = await self.begin(f"{title} {machine.name}", parent)
            if self.resumed and (ended := await self._ended(activity)) is not None:
                return ended
            try:
                result = await work(self, activity, machine)
            except Canceled:
                result = CANCELED
            if result.state is not TaskState.SUCCESS:
                await self.write(activity, "Fatal", result.error)
            await self.store.finish(self.task.number, activity, result.status)
            return result

        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(part(machine)) for machine in machines]
        by_state = {part.result().state: part.result() for part in reversed(parts)}
        return by_state.get(TaskState.CANCELED) or by_state.get(TaskState.FAILED) or SUCCESS

    async def _ended(self, activity: str) -> TaskResult | None:
        """How a part of the task ended in an earlier life of this server; `None` when it has not."""
        found = {one.id: one for one in await self.store.activities(self.task.number)}[activity]
        if found.ended is None:
            return None
        last = await self.store.last_lines(activity, self.task.number, 1)
        said = last[0].text if last else ""
        return {ActivityStatus.SUCCESS: SUCCESS, ActivityStatus.CANCELED: CANCELED}.get(found.status, failed(said))

    async def write(self, activity: str, category: str, text: str) -> None:
        """Appends one line of the server's own."""
        await self.append(activity, [LogEntry(category, text, iso(self.clock()))])

    async def append(self, activity: str, entries: Sequence[LogEntry], seen: int = 0) -> None:
        """Appends lines in their order; what is over the limit of a task is dropped, and the log says so once.

        `seen` lines of a script were read for them.
        """
        kept: list[LogEntry] = []
        for entry in entries if self._room >= 0 else ():
            self._room -= len(entry.text) + 64
            if self._room < 0:
                note = "The log of this task is too long; the rest is dropped."
                kept.append(LogEntry("Warning", note, entry.occurred))
                break
            kept.append(replace(entry, text=self.mask.cover(entry.text)) if self.mask else entry)
        await self.store.append(self.task.number, activity, kept, seen)

    def reporter(self, activity: str) -> Callable[[str], Awaitable[None]]:
        """Returns a function that writes what the calling side reports as verbose lines."""
        return partial(self.write, activity, "Verbose")


@dataclass
class ScriptLog:
    """Writes the output of one script to one activity, and keeps what has to be known to go on with it."""

    run: TaskRun
    activity: str
    keep: Callable[[Artifact], Awaitable[None]] | None = None
    """Fetches an artifact from the worker, while the script's directory is still there."""
    look: Callable[[Sequence[ProcessOutput]], object] | None = None
    """Sees each line before it is written."""
    parser: OutputParser = field(default_factory=OutputParser)
    _progress: tuple[int, str] | None = None
    _variables: dict[str, str | None] = field(default_factory=dict)
    _seen: int = 0
    """Lines that will come and are in the log already."""

    async def of(self, order: ScriptOrder, client: Client, *, resumes: bool = False) -> int:
        """Runs a script, one that `resumes` where an earlier life of this server left it; returns its exit code.

        Raises `Canceled` and `WorkerCallFailed`.
        """
        outcome = await client.run_script(order, self.observe, self.run.cancel, self if resumes else None)
        if outcome.cancelled:
            raise Canceled
        return outcome.exit_code

    async def observe(self, outputs: Sequence[ProcessOutput]) -> None:
        if self.look is not None:
            self.look(outputs)
        outputs = self._unseen(outputs)
        entries = self.parser.parse(outputs)
        self._hide()
        if self.parser.variables != self._variables:
            self._variables = dict(self.parser.variables)
            masked = {name: value and self.run.mask.cover(value) for name, value in self._variables.items()}
            await self.run.store.keep_outputs(self.run.task.number, self.activity, masked)
        await self.run.append(self.activity, entries, len(outputs))
        while self.parser.artifacts and self.keep is not None:
            await self.keep(self.parser.artifacts.pop(0))
        progress = self.parser.progress
        if progress is not None and progress != self._progress:
            self._progress = progress
            await self.run.store.progress(self.run.task.number, self.activity, *progress)

    def _unseen(self, outputs: Sequence[ProcessOutput]) -> Sequence[ProcessOutput]:
        """What is not in the log yet.  What is there is read again for what it says of the rest: secrets, say."""
        seen, outputs = outputs[: self._seen], outputs[self._seen :]
        self._seen -= len(seen)
        self.parser.parse(seen)
        self._hide()
        self.parser.artifacts.clear()
        return outputs

    def _hide(self) -> None:
        self.run.hide(self.parser.secrets)
        self.parser.secrets.clear()

    async def known(self) -> ScriptProgress | None:
        kept = await self.run.store.script(self.activity)
        if kept is None:
            return None
        self._seen = kept.seen
        return ScriptProgress(ScriptTicket(kept.ticket), kept.exit_code)

    async def begins(self, ticket: ScriptTicket) -> None:
        await self.run.store.begin_script(self.activity, ticket.task_id)

    async def ended(self, exit_code: int) -> None:
        await self.run.store.end_script(self.activity, exit_code)


async def script_said(run: TaskRun, activity: str, client: Client, script: str) -> list[str]:
    """Runs a script of the server's own; returns the lines that it wrote.

    Raises `Canceled` and `WorkerCallFailed`.
    """
    lines: list[ProcessOutput] = []
    await ScriptLog(run, activity, look=lines.extend).of(ScriptOrder(script, run.task.id), client)
    return [line.text for line in lines]


TaskHandler = Callable[[TaskRun], Awaitable[TaskResult]]
"""Does the tasks of one type."""
