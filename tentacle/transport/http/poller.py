"""Polling by HTTPS: the loops, back-off and log lines are those of polling by Halibut (docs/spec/https.md, "Polling").

Each connection fetches a request, has it carried out, and sends the reply, before it fetches the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from tentacle.errors import TentacleError, one_line
from tentacle.transport.calls import Calls
from tentacle.transport.http.client import PollingClient
from tentacle.transport.poller import Poller, PollerOptions
from tentacle.transport.spool import Spool
from tentacle.transport.tls import TlsIdentity
from tentacle.wire.call_context import CallContext, Wire
from tentacle.wire.errors import ProtocolError
from tentacle.wire.polling import PolledCalls, PolledReply, PolledRequest

log = logging.getLogger(__name__)

_PAUSE: Final = 1.0
"""Seconds before the server is asked again that has only told what is being carried out already."""


class HttpsPoller(Poller):
    """`requests` carries out what is fetched; what it has begun goes on when a connection breaks."""

    def __init__(
        self,
        identity: TlsIdentity,
        calls: Calls,
        spool: Spool,
        options: PollerOptions,
        requests: PolledCalls,
        **how: Any,
    ) -> None:
        super().__init__(identity, calls, spool, options, **how)
        self._requests = requests
        self._server = f"{options.address.thumbprint} {options.subscription}"
        self._left: list[PolledReply] = []
        """Replies that could not be sent, as a connection had broken; the next one that is made sends them."""

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            while self._left:
                self._requests.let_go(self._server, self._left.pop())

    async def _serve(self, number: int, on_identified: Callable[[], None]) -> None:
        options = self._options
        identity = self._identities[self._chosen]
        client = PollingClient(
            options.address, options.subscription, identity, options.timeouts, self._logins, options.tapping
        )
        try:
            while self._left:
                await self._send(client, self._left.pop())
            welcome = False
            while number < self._options.connections:
                # The first answer tells that the server is there and lets us in.
                fetched = await client.next(1, self._requests.holding(self._server), at_once=not welcome)
                if not welcome:
                    on_identified()
                    welcome = True
                if fetched is not None:
                    requests = await asyncio.to_thread(self._requests.read, fetched.document, fetched.date)
                    answered = [await self._answer(client, request) for request in requests]
                    if not any(answered):
                        await asyncio.sleep(_PAUSE)
        finally:
            await client.aclose()

    async def _answer(self, client: PollingClient, request: PolledRequest) -> bool:
        address = self._options.address
        context = CallContext(address.thumbprint, str(address), Wire.HTTPS, request.trace_parent)
        with self._calls.owing():
            work = self._requests.answer(self._server, request, context, client)
            reply = await self._calls.finish(work, self._unwanted)
            if reply is not None:
                await self._send(client, reply)
        return reply is not None

    def _unwanted(self, reply: PolledReply | None) -> None:
        if reply is not None:
            self._requests.let_go(self._server, reply)

    async def _send(self, client: PollingClient, reply: PolledReply) -> None:
        try:
            try:
                await _deliver(client, reply)
            except ProtocolError as error:
                reply = await self._requests.refused(self._server, reply, one_line(error))
                await _deliver(client, reply)
        except ProtocolError:
            self._requests.let_go(self._server, reply)
            raise
        except (TentacleError, OSError):
            self._left.append(reply)
            raise
        except asyncio.CancelledError:
            self._requests.let_go(self._server, reply)
            raise
        await self._requests.arrived(self._server, reply)


async def _deliver(client: PollingClient, reply: PolledReply) -> None:
    for identity, (file, length) in reply.streams.items():
        await client.send(str(identity), file, length)
    if not await client.reply(reply.id, reply.body):
        log.info("The server does not wait any more for the reply to its request %s", reply.id)
