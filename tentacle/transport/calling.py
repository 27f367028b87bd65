"""The calling side in listening mode: dials agents, keeps a few connections for the next call (docs/spec/wire.md,
"Listening client").
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import BinaryIO
from uuid import UUID

from tentacle.errors import TentacleError, one_line
from tentacle.records import dataclass
from tentacle.transport.address import Address
from tentacle.transport.dial import dial
from tentacle.transport.errors import CallFailed, Disconnected, NameUnknown, UnexpectedCertificate
from tentacle.transport.exchange import Exchange, Received
from tentacle.transport.serving import say_end
from tentacle.transport.spool import Spool
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity
from tentacle.wire.connection import Connection
from tentacle.wire.events import Identity, IdentityKind, Next, Preface, Proceed, ResponseEvent
from tentacle.wire.generations import shown_by_tls
from tentacle.wire.limits import Limits
from tentacle.wire.messages import Request
from tentacle.wire.rules import Role

POOL_SIZE = 5
"""As many as the server's own client keeps."""


@dataclass(frozen=True)
class _Idle:
    exchange: Exchange
    since: float


class ListeningCaller:
    """Calls listening agents.  Connections that worked are kept, up to `most_idle` per address."""

    def __init__(
        self,
        identity: TlsIdentity,
        spool: Spool,
        timeouts: Timeouts,
        limits: Limits,
        *,
        most_idle: int = POOL_SIZE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._most_idle = most_idle
        self._spool = spool
        self._timeouts = timeouts
        self._limits = limits
        self._clock = clock
        self._pool: dict[Address, list[_Idle]] = defaultdict(list)

    async def call(
        self, address: Address, request: Request, files: Mapping[UUID, BinaryIO], timeouts: Timeouts | None = None
    ) -> Received:
        """Returns the response, with the files of its data streams; the caller releases it.

        After a failure it tries again only if none of the request can have been sent; `timeouts` tell how it connects
        where this agent has other ones.  Raises `CallFailed`.
        """
        exchange = await self._ready(address, timeouts or self._timeouts)
        try:
            await exchange.send_request(request, files)
            received = await exchange.receive(self._timeouts.receive_response)
            if not isinstance(received.event, ResponseEvent):
                raise Disconnected("the agent closed the connection instead of answering")
        except (TentacleError, OSError, asyncio.CancelledError) as error:
            exchange.stream.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise CallFailed(
                f"An error occurred when sending a request to {address}, after the request began: {one_line(error)}",
                connected=True,
            ) from error
        self._keep(address, exchange)
        return received

    async def aclose(self) -> None:
        """Ends every idle connection as the protocol wants it."""
        for idle in [idle for pool in self._pool.values() for idle in pool]:
            try:
                await say_end(idle.exchange)
            except (TentacleError, OSError):
                idle.exchange.stream.abort()
            await idle.exchange.stream.aclose()
        self._pool.clear()

    async def _ready(self, address: Address, timeouts: Timeouts) -> Exchange:
        """A connection on which a request may be sent now."""
        while (pooled := self._take(address)) is not None:
            if await self._ask_to_proceed(pooled):
                return pooled
        began = self._clock()
        for attempt in itertools.count(1):
            try:
                return await self._connect(address, timeouts)
            except (TentacleError, OSError) as error:
                last = attempt >= timeouts.connect_attempts or self._clock() - began >= timeouts.connect_trying
                if last or isinstance(error, UnexpectedCertificate | NameUnknown):
                    raise CallFailed(
                        f"An error occurred when sending a request to {address}, before the request could begin: "
                        f"{one_line(error)}",
                        connected=False,
                        hint=getattr(error, "hint", None),
                    ) from error
            await asyncio.sleep(timeouts.retry_interval)
        raise AssertionError("unreachable")

    async def _connect(self, address: Address, timeouts: Timeouts) -> Exchange:
        stream = await dial(address, self._identity, timeouts)
        connection = Connection(Role.LISTENING_CLIENT, self._limits)
        exchange = Exchange(stream, connection, self._timeouts, self._spool)
        exchange.generation = shown_by_tls(stream.version)
        try:
            await exchange.send(Preface())
            await exchange.send(Identity(IdentityKind.CLIENT))
            await exchange.receive(self._timeouts.receive)
        except (TentacleError, OSError, asyncio.CancelledError):
            stream.abort()
            raise
        return exchange

    async def _ask_to_proceed(self, exchange: Exchange) -> bool:
        """Returns False when the agent has closed the idle connection, which is no error."""
        with ExitStack() as undo:
            undo.callback(exchange.stream.abort)
            with suppress(TentacleError, OSError):
                await exchange.send(Next(), self._timeouts.heartbeat)
                if isinstance((await exchange.receive(self._timeouts.heartbeat)).event, Proceed):
                    undo.pop_all()
                    return True
        return False

    def _take(self, address: Address) -> Exchange | None:
        pool = self._pool[address]
        while pool:
            idle = pool.pop()
            if self._clock() - idle.since < self._timeouts.pooled:
                return idle.exchange
            idle.exchange.stream.abort()
        return None

    def _keep(self, address: Address, exchange: Exchange) -> None:
        pool = self._pool[address]
        if len(pool) < self._most_idle:
            pool.append(_Idle(exchange, self._clock()))
        else:
            exchange.stream.abort()
