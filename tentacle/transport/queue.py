"""The calling side in polling mode: requests wait here until their subscriber collects them (docs/spec/wire.md,
"Polling client" and "Polling queue").
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO
from uuid import UUID

from tentacle.errors import TentacleError, one_line
from tentacle.transport.errors import CallFailed, Disconnected
from tentacle.transport.exchange import Exchange, Received
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.events import (
    Identity,
    IdentityKind,
    Next,
    Nothing,
    Proceed,
    ResponseEvent,
)
from tentacle.wire.messages import Request


def anybody(_thumbprint: str) -> bool:
    return True


@dataclass(eq=False)
class WaitingCall:
    """A call that waits for an agent to collect it, or for the agent's answer; nobody waits when `answer` is done.

    `is_for(thumbprint)`: whether this one of those who share the subscription may collect it.
    """

    request: Request
    files: Mapping[UUID, BinaryIO]
    answer: asyncio.Future[Received]
    is_for: Callable[[str], bool] = anybody
    collected: asyncio.Event = field(default_factory=asyncio.Event)


class _Queue:
    """One subscription's calls, first come first served, shared by all its connections."""

    def __init__(self) -> None:
        self._items: deque[WaitingCall] = deque()
        self._changed = asyncio.Event()

    def put(self, item: WaitingCall) -> None:
        self._items.append(item)
        self._changed.set()

    def put_back(self, item: WaitingCall) -> None:
        """Makes a call that was taken out, but not sent, the next one again."""
        self._items.appendleft(item)
        self._changed.set()

    def remove(self, item: WaitingCall) -> None:
        with suppress(ValueError):
            self._items.remove(item)

    async def get(self, thumbprint: str) -> WaitingCall:
        while (item := next((one for one in self._items if one.is_for(thumbprint)), None)) is None:
            self._changed.clear()
            await self._changed.wait()
        self._items.remove(item)
        item.collected.set()
        return item


class PollingQueues:
    """Calls to polling agents, by subscription (`poll://id/`, in lower case)."""

    def __init__(
        self, timeouts: Timeouts, allowed: Callable[[str, str], bool] = lambda _subscription, _thumbprint: True
    ) -> None:
        """`allowed(subscription, thumbprint)`: whether this agent may collect these calls.  The original never asks."""
        self._timeouts = timeouts
        self._allowed = allowed
        self._queues: dict[str, _Queue] = defaultdict(_Queue)
        self._connected: dict[str, int] = defaultdict(int)

    def connected(self, subscription: str) -> int:
        """How many connections of `subscription` are being served at this moment."""
        return self._connected[subscription]

    async def call(
        self,
        subscription: str,
        request: Request,
        files: Mapping[UUID, BinaryIO],
        wait: float | None = None,
        is_for: Callable[[str], bool] = anybody,
    ) -> Received:
        """Returns the response; the caller releases it.

        Raises `CallFailed`, also when no agent collects the call within `wait` seconds, `polling_queue` by default.
        """
        item = WaitingCall(request, files, asyncio.get_running_loop().create_future(), is_for)
        queue = self._queues[subscription]
        queue.put(item)
        try:
            await self._collected(item, self._timeouts.polling_queue if wait is None else wait)
            return await item.answer
        finally:
            queue.remove(item)
            item.answer.cancel()

    async def _collected(self, item: WaitingCall, wait: float) -> None:
        try:
            async with asyncio.timeout(wait):
                await item.collected.wait()
        except TimeoutError as error:
            raise CallFailed(
                "A request was sent to a polling endpoint, but the polling endpoint did not collect the request "
                f"within the allowed time ({wait:g} s), so the request timed out.",
                connected=False,
                hint="is the agent running, and does it poll this server?",
            ) from error

    async def take(self, subscription: str, wait: float, thumbprint: str) -> WaitingCall | None:
        """The next call, for who carries it another way than by a connection of Halibut; `None` after `wait` seconds.

        The taker sets the `answer`.
        """
        getting = asyncio.ensure_future(self._queues[subscription].get(thumbprint))
        try:
            await asyncio.wait((getting,), timeout=wait)
        except asyncio.CancelledError:
            if getting.done():
                self._queues[subscription].put_back(getting.result())
            raise
        finally:
            getting.cancel()
            await asyncio.gather(getting, return_exceptions=True)
        return None if getting.cancelled() else getting.result()

    async def serve(self, exchange: Exchange, thumbprint: str) -> None:
        """Serves one subscriber's connection until it ends."""
        while True:
            identity = (await exchange.receive(self._timeouts.receive)).event
            if isinstance(identity, Identity):
                break
        subscription = identity.subscription or ""
        if not self._allowed(subscription, thumbprint):
            raise Disconnected(f"{thumbprint} polled as {subscription}, which belongs to somebody else")
        await exchange.send(Identity(IdentityKind.SERVER))
        self._connected[subscription] += 1
        try:
            await self._serve(exchange, self._queues[subscription], thumbprint)
        finally:
            self._connected[subscription] -= 1

    async def _serve(self, exchange: Exchange, queue: _Queue, thumbprint: str) -> None:
        while True:
            item = await self._next(exchange, queue, thumbprint)
            if item is None:
                await exchange.send(Nothing())
            else:
                await self._deliver(exchange, item)
            if not isinstance((await exchange.receive(self._timeouts.receive)).event, Next):
                return
            await exchange.send(Proceed(), self._timeouts.heartbeat)

    async def _next(self, exchange: Exchange, queue: _Queue, thumbprint: str) -> WaitingCall | None:
        """The next call, or `None` after a while.  Raises `Disconnected` when the subscriber leaves meanwhile."""
        getting = asyncio.ensure_future(queue.get(thumbprint))
        reading = asyncio.ensure_future(exchange.wait_readable())
        try:
            await asyncio.wait(
                (getting, reading), timeout=self._timeouts.polling_queue_wait, return_when=asyncio.FIRST_COMPLETED
            )
            if reading.done():
                raise Disconnected("the subscriber closed the connection, or spoke out of turn")
        except (Disconnected, asyncio.CancelledError):
            if getting.done():
                queue.put_back(getting.result())
            raise
        finally:
            getting.cancel()
            reading.cancel()
            await asyncio.gather(getting, reading, return_exceptions=True)
        return None if getting.cancelled() else getting.result()

    async def _deliver(self, exchange: Exchange, item: WaitingCall) -> None:
        try:
            await exchange.send_request(item.request, item.files)
            received = await exchange.receive(self._timeouts.receive_response)
            if not isinstance(received.event, ResponseEvent):
                raise Disconnected("the agent closed the connection instead of answering")
        except (TentacleError, OSError, asyncio.CancelledError) as error:
            if not item.answer.done():
                item.answer.set_exception(
                    CallFailed(f"The connection to the polling agent failed: {one_line(error)}", connected=True)
                )
            raise
        if item.answer.done():
            received.release()
        else:
            item.answer.set_result(received)
