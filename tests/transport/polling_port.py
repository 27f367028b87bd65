"""A server's polling port that tests look behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tentacle.transport.exchange import Exchange
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.queue import PollingQueues
from tentacle.transport.spool import Spool
from tentacle.wire.rules import Role
from tests.patience import PATIENCE
from tests.pki import identity
from tests.transport.harness import FAST, request, response

SUBSCRIPTION = "poll://abc/"


class PollingPort:
    """A server's polling port that knows agents by their thumbprints; `seen` are those of all who came."""

    def __init__(self, *known: str) -> None:
        self.known = {identity(name).thumbprint for name in known}
        self.seen: list[str] = []
        self.up: list[Exchange] = []
        self._queues = PollingQueues(FAST)
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def listening(self, tmp_path: Path) -> AsyncIterator[int]:
        spool = Spool(tmp_path / "server-spool")
        spool.create()
        options = ListenerOptions(host="127.0.0.1", role=Role.POLLING_CLIENT, timeouts=FAST)
        listener = Listener(identity("server"), self._is_known, self._serve, spool, options)
        await listener.start()
        try:
            yield listener.port
        finally:
            await listener.aclose()

    def _is_known(self, thumbprint: str) -> bool:
        self.seen.append(thumbprint)
        return thumbprint in self.known

    async def _serve(self, exchange: Exchange, thumbprint: str) -> None:
        await self._now(exchange, up=True)
        try:
            await self._queues.serve(exchange, thumbprint)
        finally:
            await self._now(exchange, up=False)

    async def _now(self, exchange: Exchange, *, up: bool) -> None:
        async with self._changed:
            (self.up.append if up else self.up.remove)(exchange)
            self._changed.notify_all()

    async def has(self, connections: int, came: int = 0) -> None:
        """Waits until there are so many connections, after so many came."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.up) == connections and len(self.seen) >= came)

    async def drop(self) -> None:
        """Cuts all connections, and waits until they are gone."""
        for exchange in list(self.up):
            await exchange.stream.aclose()

    async def call(self, *params: object) -> object:
        """The result of a call to whoever polls first."""
        return response(await self._queues.call(SUBSCRIPTION, request(*params), {})).result
