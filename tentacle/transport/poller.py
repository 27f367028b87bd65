"""Polling: dials out to one server with N connections, each for ever (halibut.md 5.4, tentacle-services.md 6.3)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tentacle.errors import TentacleError, one_line
from tentacle.transport.backoff import Backoff
from tentacle.transport.calls import Calls
from tentacle.transport.dial import Address, dial
from tentacle.transport.exchange import Exchange
from tentacle.transport.serving import say_end, serve_polling
from tentacle.transport.spool import Spool
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity
from tentacle.wire.connection import Connection
from tentacle.wire.limits import Limits
from tentacle.wire.rules import Role, State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PollerOptions:
    """`address` is whom we dial, `subscription` under which name (`poll://.../`), `connections` how often at once."""

    address: Address
    subscription: str
    connections: int = 1
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)


class Poller:
    """All polling connections to one server.  `run` never returns; cancel it."""

    def __init__(
        self,
        identity: TlsIdentity,
        calls: Calls,
        spool: Spool,
        options: PollerOptions,
        *,
        make_backoff: Callable[[], Backoff] = lambda: Backoff(time.monotonic, random.Random()),
    ) -> None:
        self._identity = identity
        self._calls = calls
        self._spool = spool
        self._options = options
        self._make_backoff = make_backoff
        self._connected = 0

    @property
    def connected(self) -> int:
        """How many connections are identified at this moment."""
        return self._connected

    @property
    def options(self) -> PollerOptions:
        """Whom this polls, under which name, with how many connections."""
        return self._options

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._options.connections):
                group.create_task(self._loop())

    async def _loop(self) -> None:
        backoff = self._make_backoff()
        while True:
            backoff.attempt()
            try:
                await self._connection(backoff)
            except (TentacleError, OSError) as error:
                wait = backoff.wait()
                log.error(
                    "Polling %s: %s. Trying again in %.1f seconds%s",
                    self._options.address,
                    one_line(error),
                    wait,
                    _next_step(error),
                )
                await asyncio.sleep(wait)

    async def _connection(self, backoff: Backoff) -> None:
        options = self._options
        stream = await dial(options.address, self._identity, options.timeouts)
        connection = Connection(Role.POLLING_SERVICE, options.limits)
        exchange = Exchange(stream, connection, options.timeouts, self._spool)
        identified = False

        def on_identified() -> None:
            nonlocal identified
            identified = True
            self._connected += 1
            backoff.success()
            log.info("Polling %s as %s", options.address, options.subscription)

        try:
            await serve_polling(exchange, self._calls, options.subscription, on_identified)
        finally:
            self._connected -= identified
            if connection.state is State.SEND_NEXT:
                with contextlib.suppress(TentacleError, OSError):
                    await say_end(exchange)
            stream.abort()


def _next_step(error: BaseException) -> str:
    hint = getattr(error, "hint", None)
    return f" ({hint})" if hint else ""
