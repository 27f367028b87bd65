"""One script from its start to its completion, as the original's client runs it (docs/spec/services.md,
"How a server conducts a script").

Knows the order of the calls and the pauses between them; must not know which version of the service it talks to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from uuid import uuid4

from tentacle.contracts.script import ProcessOutput, ProcessState, ScriptTicket
from tentacle.devserver.worker.caller import WorkerCallFailed
from tentacle.devserver.worker.script_calls import ScriptCalls, ScriptOrder, ScriptStatus
from tentacle.devserver.worker.waiting import StatusInterval, Time, ends_before

Observe = Callable[[Sequence[ProcessOutput]], Awaitable[None]]

LAST_CANCEL_TIMEOUT = 5.0
"""Seconds for the cancellation of a script whose status could not be read."""


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
        unread = ScriptStatus(script.ticket, (), 0, ProcessState.PENDING, 0)
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
