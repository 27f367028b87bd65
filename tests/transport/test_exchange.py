"""The pump, and a peer that takes its time with what it is sent."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.transport.errors import Disconnected, TimedOut
from tentacle.transport.exchange import Exchange
from tentacle.transport.spool import Spool
from tentacle.transport.stream import RECEIVE_SIZE, TcpStream
from tentacle.wire.connection import Connection
from tentacle.wire.events import Identity, IdentityKind, Preface, RequestEvent, ResponseEvent
from tentacle.wire.messages import Request, Response
from tentacle.wire.rules import Role
from tests.transport.harness import FAST

HUGE = random.Random(1).randbytes(24_000_000).hex()
"""More than the sockets between two processes hold, and deflated half of it still is."""


@asynccontextmanager
async def asked(spool: Path, seconds: float) -> AsyncIterator[tuple[Exchange, TcpStream]]:
    """The agent's end of a connection on which a request has been made, and the stream of who has made it."""
    accepted: asyncio.Queue[TcpStream] = asyncio.Queue()
    timeouts = replace(FAST, send=seconds)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait(TcpStream(reader, writer, timeouts))

    async with await asyncio.start_server(accept, "127.0.0.1", 0, limit=RECEIVE_SIZE) as server:
        peer = TcpStream(*await asyncio.open_connection(*server.sockets[0].getsockname()), timeouts)
        stream = await accepted.get()
        exchange = Exchange(stream, Connection(Role.LISTENING_SERVICE), timeouts, Spool(spool))
        caller = Connection(Role.LISTENING_CLIENT)
        for event in (Preface(), Identity(IdentityKind.CLIENT)):
            for record in caller.send(event):
                await peer.send(record)
        await exchange.receive(30)
        await exchange.receive(30)
        await exchange.send(Identity(IdentityKind.SERVER))
        while caller.next_event() is None:
            caller.receive_data(await peer.receive())
        for record in caller.send(RequestEvent(Request("1", "IService", "Method"))):
            await peer.send(record)
        await exchange.receive(30)
        yield exchange, peer
        peer.abort()
        stream.abort()
        await asyncio.sleep(0)


async def test_a_peer_that_takes_nothing_is_given_up(tmp_path: Path) -> None:
    async with asked(tmp_path, 0.3) as (exchange, _):
        with pytest.raises(TimedOut, match=r"waited 0\.3 s for the peer to take what was sent"):
            await exchange.send(ResponseEvent(Response("1", HUGE)))


async def test_a_peer_that_takes_it_slowly_gets_it_whole(tmp_path: Path) -> None:
    async with asked(tmp_path, 60) as (exchange, peer):
        sending = asyncio.create_task(exchange.send(ResponseEvent(Response("1", HUGE))))
        received = 0
        while not sending.done():
            received += len(await peer.receive())
            await asyncio.sleep(0)
        await sending
        assert received > len(HUGE) // 3


async def test_a_peer_that_has_gone_is_told_at_once(tmp_path: Path) -> None:
    async with asked(tmp_path, 60) as (exchange, peer):
        peer.abort()
        assert await exchange.stream.receive() == b""
        exchange.stream.abort()
        with pytest.raises(Disconnected, match="the connection broke while sending"):
            await exchange.send(ResponseEvent(Response("1", "short")))
