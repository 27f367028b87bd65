"""The two script services behind one interface: start, status, cancel, complete (docs/spec/services.md,
"How a server conducts a script" and "Script service V2" and "Script service V1").

Knows which commands each service takes; must not know when they are called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID, uuid4

from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script import ProcessOutput, ProcessState, ScriptFile, ScriptIsolationLevel, ScriptTicket
from tentacle.contracts.script_v1 import (
    CancelScriptCommand,
    CompleteScriptCommand,
    ScriptStatusRequest,
    ScriptStatusResponse,
    StartScriptCommand,
)
from tentacle.contracts.script_v2 import (
    CancelScriptCommandV2,
    CompleteScriptCommandV2,
    ScriptStatusRequestV2,
    ScriptStatusResponseV2,
    StartScriptCommandV2,
)
from tentacle.contracts.timespan import MAX_INT32_MILLISECONDS
from tentacle.devserver.worker.caller import NO_STREAMS, WorkerCallFailed
from tentacle.devserver.worker.retry import CallRetries
from tentacle.devserver.worker.typed_calls import TypedCalls, expect
from tentacle.devserver.worker.waiting import ends_before

MUTEX: Final = "RunningScript"
"""The isolation mutex that the original's client names (docs/spec/services.md, "What a command contains")."""

CANCEL_DURATION: Final = 30.0
"""Seconds for which a cancellation is repeated at a worker that cannot be reached."""

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

    def streams(self) -> tuple[tuple[ScriptFile, ...], dict[UUID, Path]]:
        """Returns the files as a command names them, and their bytes, which follow it."""
        named = {name: DataStream(uuid4(), path.stat().st_size) for name, path in self.files.items()}
        files = tuple(ScriptFile(name, stream) for name, stream in named.items())
        return files, {stream.id: self.files[name] for name, stream in named.items()}


@dataclass(frozen=True)
class ScriptStatus:
    """The state of a script: the log from the requested number on, and the number to request next."""

    ticket: ScriptTicket
    logs: Sequence[ProcessOutput]
    next: int
    state: ProcessState
    exit_code: int

    @property
    def complete(self) -> bool:
        return self.state is ProcessState.COMPLETE


def _status(response: ScriptStatusResponse | ScriptStatusResponseV2) -> ScriptStatus:
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
        files, streams = order.streams()
        command = StartScriptCommandV2(
            script_ticket=ticket,
            script_body=order.body,
            task_id=order.task_id,
            duration_to_wait_for_script_to_finish=order.wait,
            isolation=order.isolation,
            script_isolation_mutex_timeout=MAX_INT32_MILLISECONDS,
            isolation_mutex_name=MUTEX,
            files=files,
            arguments=order.arguments,
        )
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
        return ScriptStatus(ticket, (), 0, ProcessState.PENDING, 0)

    async def status(self, last: ScriptStatus) -> ScriptStatus:
        request = ScriptStatusRequestV2(last.ticket, last.next)
        return await self.retries.run(lambda: self._call("GetStatus", request))

    async def cancel(self, last: ScriptStatus) -> ScriptStatus:
        command, policy = CancelScriptCommandV2(last.ticket, last.next), self.retries.policy
        shorter = replace(policy, duration=min(policy.duration, CANCEL_DURATION))
        return await replace(self.retries, policy=shorter).run(lambda: self._call("CancelScript", command))

    async def complete(self, last: ScriptStatus) -> ScriptStatus:
        """Never repeated: a failure leaves only a directory, until the agent removes it by its age."""
        try:
            await self.calls.call(V2, "CompleteScript", CompleteScriptCommandV2(last.ticket), timeout=60)
        except WorkerCallFailed as failure:
            await self.retries.report(f"Failed to cleanup the script working directory on Tentacle: {failure.message}")
        return last

    async def _call(self, method: str, command: object, streams: Mapping[UUID, Path] = NO_STREAMS) -> ScriptStatus:
        return _status(expect(ScriptStatusResponseV2, await self.calls.call(V2, method, command, streams=streams)))


@dataclass(frozen=True)
class ScriptCallsV1:
    """Version 1: the agent makes the ticket, and nothing is ever repeated."""

    calls: TypedCalls

    async def start(self, order: ScriptOrder, ticket: ScriptTicket, cancel: asyncio.Event) -> ScriptStatus:
        """Waits for the ticket even when cancelled: without it the script could not be cancelled at all."""
        files, streams = order.streams()
        command = StartScriptCommand(
            script_body=order.body,
            isolation=order.isolation,
            files=files,
            arguments=order.arguments,
            task_id=order.task_id,
            script_isolation_mutex_timeout=MAX_INT32_MILLISECONDS,
            isolation_mutex_name=MUTEX,
        )
        given = expect(ScriptTicket, await self.calls.call(V1, "StartScript", command, streams=streams))
        return ScriptStatus(given, (), 0, ProcessState.PENDING, 0)

    async def status(self, last: ScriptStatus) -> ScriptStatus:
        """A complete script is asked once more, for what it wrote between its last line and its end."""
        now = await self._call("GetStatus", ScriptStatusRequest(last.ticket, last.next))
        if not now.complete:
            return now
        rest = await self._call("GetStatus", ScriptStatusRequest(last.ticket, now.next))
        return ScriptStatus(rest.ticket, (*now.logs, *rest.logs), rest.next, rest.state, rest.exit_code)

    async def cancel(self, last: ScriptStatus) -> ScriptStatus:
        return await self._call("CancelScript", CancelScriptCommand(last.ticket, last.next))

    async def complete(self, last: ScriptStatus) -> ScriptStatus:
        return await self._call("CompleteScript", CompleteScriptCommand(last.ticket, last.next))

    async def _call(self, method: str, command: object) -> ScriptStatus:
        return _status(expect(ScriptStatusResponse, await self.calls.call(V1, method, command)))
