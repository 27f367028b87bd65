"""One script from its start to its completion, as the server's client conducts it (tentacle-services.md 2.4).

Knows the order of the calls and the pauses between them; must not know which version of the service it talks to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from tentacle.contracts.script import ProcessOutput, ScriptTicket
from tentacle.devserver.worker.caller import CallFailed
from tentacle.devserver.worker.retry import Backoff
from tentacle.devserver.worker.script_calls import ScriptCalls, ScriptOrder, ScriptStatus
from tentacle.devserver.worker.waiting import Time, ends_before

Observe = Callable[[Sequence[ProcessOutput]], Awaitable[None]]
LAST_WORD_TIMEOUT = 5.0
"""Seconds for the cancellation of a script that could no longer be watched."""


@dataclass(frozen=True)
class ScriptOutcome:
    """How a script ended.  When it was `cancelled` its exit code says nothing."""

    exit_code: int
    cancelled: bool


@dataclass(frozen=True)
class ScriptRun:
    """Conducts one script.  `observe` gets every line of its log once and in order."""

    calls: ScriptCalls
    backoff: Backoff
    time: Time
    observe: Observe
    cancel: asyncio.Event

    async def run(self, order: ScriptOrder, ticket: ScriptTicket) -> ScriptOutcome:
        """Raises `CallFailed` when the worker can no longer be asked."""
        status = await self._watch(await self.calls.start(order, ticket, self.cancel))
        done = await self.calls.complete(status)
        if done is not status:
            await self.observe(done.logs)
        return ScriptOutcome(done.exit_code, self.cancel.is_set())

    async def _watch(self, status: ScriptStatus) -> ScriptStatus:
        await self.observe(status.logs)
        turn = cancelled_turn = 0
        while not status.complete:
            if self.cancel.is_set():
                # The first cancellation goes out at once; from then on it is repeated instead of asking.
                if cancelled_turn:
                    await self.time.sleep(self.backoff.delay(cancelled_turn))
                cancelled_turn += 1
                status = await self.calls.cancel(status)
            else:
                turn += 1
                status = await self._look_later(status, turn)
            await self.observe(status.logs)
        return status

    async def _look_later(self, status: ScriptStatus, turn: int) -> ScriptStatus:
        """The next status, or the same without its log when the run is cancelled meanwhile."""
        looking = asyncio.ensure_future(self._pause_and_ask(status, turn))
        try:
            if await ends_before(looking, self.cancel):
                return looking.result()
        except CallFailed:
            if not self.cancel.is_set():
                with contextlib.suppress(CallFailed, TimeoutError):
                    async with asyncio.timeout(LAST_WORD_TIMEOUT):
                        await self.calls.cancel(status)
            raise
        return replace(status, logs=())

    async def _pause_and_ask(self, status: ScriptStatus, turn: int) -> ScriptStatus:
        await self.time.sleep(self.backoff.delay(turn))
        return await self.calls.status(status)
