"""One script from its start to its completion, as the original's client runs it, by either of the two script services
(docs/spec/services.md, "How a server conducts a script" and "Script service V2" and "Script service V1").

Knows the commands of each service, their order and the pauses between them; must not know the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID, uuid4

from tentacle.calling.caller import NO_STREAMS, TypedCalls, WorkerCallFailed, expect
from tentacle.calling.retry import CallRetries, StatusInterval, Time, ends_before
from tentacle.contracts import script_v1 as v1
from tentacle.contracts import script_v2 as v2
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script import ProcessOutput, ProcessState, ScriptFile, ScriptIsolationLevel, ScriptTicket
from tentacle.contracts.timespan import MAX_INT32_MILLISECONDS
from tentacle.records import dataclass

T = TypeVar("T")
Observe = Callable[[Sequence[ProcessOutput]], Awaitable[None]]

MUTEX: Final = "RunningScript"
"""The isolation mutex that the original's client names (docs/spec/services.md, "What a command contains")."""

CANCEL_DURATION: Final = 30.0
"""Seconds for which a cancellation is repeated at a worker that cannot be reached."""

LAST_CANCEL_TIMEOUT: Final = 5.0
"""Seconds for the cancellation of a script whose status could not be read."""

V1: Final = "IScriptService"
V2: Final = "IScriptServiceV2"


@dataclass(frozen=True)
class ScriptOrder:
    """A script to run, with the local files that go into its directory by their names there.

    `wait` is how long the agent may delay the answer to the start for a quick script.
    """

    body: str = field(repr=False)
    task_id: str
    isolation: ScriptIsolationLevel = ScriptIsolationLevel.NO_ISOLATION
    arguments: tuple[str, ...] = field(default=(), repr=False)
    wait: timedelta = timedelta(milliseconds=300)
    files: Mapping[str, Path] = field(default_factory=dict)

    def command(self, kind: Callable[..., T], **more: Any) -> tuple[T, dict[UUID, Path]]:
        """Returns the command that starts it, and the bytes of its files, which follow the command."""
        named = {name: DataStream(uuid4(), path.stat().st_size) for name, path in self.files.items()}
        command = kind(
            script_body=self.body,
            isolation=self.isolation,
            files=tuple(ScriptFile(name, stream) for name, stream in named.items()),
            arguments=self.arguments,
            task_id=self.task_id,
            script_isolation_mutex_timeout=MAX_INT32_MILLISECONDS,
            isolation_mutex_name=MUTEX,
            **more,
        )
        return command, {stream.id: self.files[name] for name, stream in named.items()}


@dataclass(frozen=True)
class ScriptStatus:
    """The state of a script: the log from the requested number on, and the number to request next."""

    ticket: ScriptTicket
    logs: Sequence[ProcessOutput] = ()
    next: int = 0
    state: ProcessState = ProcessState.PENDING
    exit_code: int = 0

    @property
    def complete(self) -> bool:
        return self.state is ProcessState.COMPLETE


def _status(response: v1.ScriptStatusResponse | v2.ScriptStatusResponseV2) -> ScriptStatus:
    return ScriptStatus(response.ticket, response.logs, response.next_log_sequence, response.state, response.exit_code)


class ScriptCalls(Protocol):
    """What a run needs of either service.  Every method raises `WorkerCallFailed`."""

    async def start(self, order: ScriptOrder, ticket: ScriptTicket, cancel: asyncio.Event) -> ScriptStatus: ...

    async def status(self, last: ScriptStatus) -> ScriptStatus: ...

    async def cancel(self, last: ScriptStatus) -> ScriptStatus: ...

    async def complete(self, last: ScriptStatus) -> ScriptStatus: ...


@dataclass(frozen=True)
class ScriptCallsV2:
    """Version 2: everything but the completion may be repeated."""

    calls: TypedCalls
    retries: CallRetries

    async def start(self, order: ScriptOrder, ticket: ScriptTicket, cancel: asyncio.Event) -> ScriptStatus:
        """Starts the script; a start that is cancelled on its way may have arrived, so it counts as pending."""
        own = {"script_ticket": ticket, "duration_to_wait_for_script_to_finish": order.wait}
        command, streams = order.command(v2.StartScriptCommandV2, **own)
        may_have_arrived = False

        async def attempt() -> ScriptStatus:
            nonlocal may_have_arrived
            before, may_have_arrived = may_have_arrived, True
            try:
                return await self._call("StartScript", command, streams)
            except WorkerCallFailed as failure:
                may_have_arrived = before or failure.connected
                raise

        starting = asyncio.ensure_future(self.retries.run(attempt))
        if await ends_before(starting, cancel):
            return starting.result()
        if not may_have_arrived:
            raise WorkerCallFailed("The script was cancelled before it reached the worker.")
        return ScriptStatus(ticket)

    async def status(self, last: ScriptStatus) -> ScriptStatus:
        request = v2.ScriptStatusRequestV2(last.ticket, last.next)
        return await self.retries.run(lambda: self._call("GetStatus", request))

    async def cancel(self, last: ScriptStatus) -> ScriptStatus:
        command, policy = v2.CancelScriptCommandV2(last.ticket, last.next), self.retries.policy
        shorter = replace(policy, duration=min(policy.duration, CANCEL_DURATION))
        return await replace(self.retries, policy=shorter).run(lambda: self._call("CancelScript", command))

    async def complete(self, last: ScriptStatus) -> ScriptStatus:
        """Never repeated: a failure leaves only a directory, until the agent removes it by its age."""
        try:
            await self.calls.call(V2, "CompleteScript", v2.CompleteScriptCommandV2(last.ticket), timeout=60)
        except WorkerCallFailed as failure:
            await self.retries.report(f"Failed to cleanup the script working directory on Tentacle: {failure.message}")
        return last

    async def _call(self, method: str, command: object, streams: Mapping[UUID, Path] = NO_STREAMS) -> ScriptStatus:
        return _status(expect(v2.ScriptStatusResponseV2, await self.calls.call(V2, method, command, streams=streams)))


@dataclass(frozen=True)
class ScriptCallsV1:
    """Version 1: the agent makes the ticket, and nothing is ever repeated."""

    calls: TypedCalls

    async def start(self, order: ScriptOrder, ticket: ScriptTicket, cancel: asyncio.Event) -> ScriptStatus:
        """Waits for the ticket even when cancelled: without it the script could not be cancelled at all."""
        command, streams = order.command(v1.StartScriptCommand)
        return ScriptStatus(expect(ScriptTicket, await self.calls.call(V1, "StartScript", command, streams=streams)))

    async def status(self, last: ScriptStatus) -> ScriptStatus:
        """A complete script is asked once more, for what it wrote between its last line and its end."""
        now = await self._call("GetStatus", v1.ScriptStatusRequest(last.ticket, last.next))
        if not now.complete:
            return now
        rest = await self._call("GetStatus", v1.ScriptStatusRequest(last.ticket, now.next))
        return replace(rest, logs=(*now.logs, *rest.logs))

    async def cancel(self, last: ScriptStatus) -> ScriptStatus:
        return await self._call("CancelScript", v1.CancelScriptCommand(last.ticket, last.next))

    async def complete(self, last: ScriptStatus) -> ScriptStatus:
        return await self._call("CompleteScript", v1.CompleteScriptCommand(last.ticket, last.next))

    async def _call(self, method: str, command: object) -> ScriptStatus:
        return _status(expect(v1.ScriptStatusResponse, await self.calls.call(V1, method, command)))


# --- the run ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScriptOutcome:
    """How a script ended.  The exit code of a `cancelled` script means nothing."""

    exit_code: int
    cancelled: bool


@dataclass(frozen=True)
class ScriptProgress:
    """How a script has ended, if it has; `again` says that an earlier life of this server began it."""

    ticket: ScriptTicket
    exit_code: int | None = None
    again: bool = True


class ScriptNotes(Protocol):
    """What is kept of a script, so that the server can be killed at any moment."""

    async def known(self) -> ScriptProgress | None:
        """What an earlier life has noted."""

    async def begins(self, ticket: ScriptTicket) -> None:
        """Before the script is started."""

    async def ended(self, exit_code: int) -> None:
        """When its whole log was observed, and before its worker may forget it."""


class NoNotes:
    """For a script that is not taken up again."""

    async def known(self) -> ScriptProgress | None:
        return None

    async def begins(self, ticket: ScriptTicket) -> None: ...

    async def ended(self, exit_code: int) -> None: ...


async def begin_once(notes: ScriptNotes, place: str) -> str:
    """Notes a script on a `place` that keeps no results, and returns a name for it.

    Raises `WorkerCallFailed` where an earlier life has begun it.
    """
    if await notes.known() is not None:
        raise WorkerCallFailed(
            f"The server was stopped while the script was under way, and {place} cannot tell what became of it."
        )
    ticket = ScriptTicket(uuid4().hex)
    await notes.begins(ticket)
    return ticket.task_id


@dataclass(frozen=True)
class ScriptRun:
    """Runs one script.  `observe` gets every line of its log once and in order."""

    calls: ScriptCalls
    interval: StatusInterval
    time: Time
    observe: Observe
    cancel: asyncio.Event
    notes: ScriptNotes = field(default_factory=NoNotes)

    async def run(self, order: ScriptOrder, script: ScriptProgress) -> ScriptOutcome:
        """Raises `WorkerCallFailed` when the worker can no longer be asked."""
        status = await self._begin(order, script)
        await self.observe(status.logs)
        looks = cancellations = 0
        while not status.complete:
            if not self.cancel.is_set():
                looks += 1
                status = await self._next_status(status, self.interval.before(looks))
            else:
                # The first cancellation goes out at once; from then on it is repeated instead of asking.
                if cancellations:
                    await self.time.sleep(self.interval.before(cancellations))
                cancellations += 1
                status = await self.calls.cancel(status)
            await self.observe(status.logs)
        await self.notes.ended(status.exit_code)
        done = await self.calls.complete(status)
        if done is not status:
            await self.observe(done.logs)
        return ScriptOutcome(done.exit_code, self.cancel.is_set())

    async def _begin(self, order: ScriptOrder, script: ScriptProgress) -> ScriptStatus:
        """Starts the script; of one that was started before, the log is read from its beginning."""
        unread = ScriptStatus(script.ticket)
        if script.exit_code is not None:
            return replace(unread, state=ProcessState.COMPLETE, exit_code=script.exit_code)
        if script.again and self.cancel.is_set():
            return unread
        return await self.calls.start(order, script.ticket, self.cancel)

    async def _next_status(self, status: ScriptStatus, pause: float) -> ScriptStatus:
        """Returns the status after a pause, or the last one without its log when the run is cancelled meanwhile."""

        async def look() -> ScriptStatus:
            await self.time.sleep(pause)
            return await self.calls.status(status)

        looking = asyncio.ensure_future(look())
        try:
            if await ends_before(looking, self.cancel):
                return looking.result()
        except WorkerCallFailed:
            if not self.cancel.is_set():
                with contextlib.suppress(WorkerCallFailed, TimeoutError):
                    async with asyncio.timeout(LAST_CANCEL_TIMEOUT):
                        await self.calls.cancel(status)
            raise
        return replace(status, logs=())
