"""The pump, and a peer that takes its time with what it is sent."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tentacle.errors import TentacleError
from tentacle.transport.errors import Disconnected, TimedOut
from tentacle.transport.exchange import Exchange, Received
from tentacle.transport.memory import EVERYBODY, Memory
from tentacle.transport.spool import Spool
from tentacle.transport.stream import TcpStream
from tentacle.wire.call_context import CallContext
from tentacle.wire.connection import Connection
from tentacle.wire.envelope import deflate
from tentacle.wire.errors import ProtocolError
from tentacle.wire.events import Identity, IdentityKind, Preface, RequestEvent, ResponseEvent
from tentacle.wire.limits import MIB
from tentacle.wire.messages import Request, Response, encode_message
from tentacle.wire.rules import Role
from tests.patience import PATIENCE
from tests.transport.harness import FAST, spool_in, stream_document, two_ends

Talk = tuple[Exchange, TcpStream, asyncio.Task[Received]]

HUGE = random.Random(1).randbytes(24_000_000).hex()
"""More than the sockets between two processes hold, and deflated half of it still is."""


@asynccontextmanager
async def asked(spool: Path, seconds: float, memory: Memory = EVERYBODY) -> AsyncIterator[tuple[Exchange, TcpStream]]:
    """The agent's end of a connection on which a request has been made, and the stream of who has made it."""
    timeouts = replace(FAST, send=seconds)
    async with two_ends(timeouts) as (stream, peer):
        exchange = Exchange(stream, Connection(Role.LISTENING_SERVICE), timeouts, Spool(spool), memory=memory)
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
        assert received > len(HUGE) // 4, "the rest is in the sockets"


async def test_a_peer_that_has_gone_is_told_at_once(tmp_path: Path) -> None:
    async with asked(tmp_path, 60) as (exchange, peer):
        peer.abort()
        assert await exchange.stream.receive() == b""
        exchange.stream.abort()
        with pytest.raises(Disconnected, match="the connection broke while sending"):
            await exchange.send(ResponseEvent(Response("1", "short")))


class Deaf:
    """Holds memory, and is never waited for."""

    waiting_since: float | None = None

    def give_up(self) -> None:
        raise AssertionError("it is our turn")


# --- memory ------------------------------------------------------------------------------------------------------


def long(megabytes: int) -> list[bytes]:
    """The records of a request that unfolds to so much; what is sent is a thousand times less."""
    caller = Connection(Role.LISTENING_CLIENT)
    for event in (Preface(), Identity(IdentityKind.CLIENT)):
        caller.send(event)
    caller.receive_data(b"MX-SERVER 1.0\r\n\r\n")
    assert caller.next_event()
    return caller.send(RequestEvent(Request("1", "IService", "Method", ("x" * megabytes * MIB,))))


@asynccontextmanager
async def serving(tmp_path: Path, memory: Memory, peer: str = "A", receive: float = 30) -> AsyncIterator[Talk]:
    """The agent's end of a connection on which a request is expected, and the stream of who makes it."""
    timeouts = replace(FAST, receive=receive)
    async with two_ends(timeouts) as (stream, caller):
        exchange = Exchange(
            stream,
            Connection(Role.LISTENING_SERVICE),
            timeouts,
            Spool(tmp_path),
            context=CallContext(peer),
            memory=memory,
        )
        await caller.send(b"MX\n\nMX-CLIENT 1.0\r\n\r\n")
        await exchange.receive(30)
        await exchange.receive(30)
        await exchange.send(Identity(IdentityKind.SERVER))
        receiving = asyncio.create_task(exchange.receive(30))
        try:
            async with asyncio.timeout(PATIENCE):
                yield exchange, caller, receiving
        finally:
            receiving.cancel()
            with suppress(asyncio.CancelledError, TentacleError):
                await receiving


async def has(memory: Memory, condition: Callable[[int], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition(memory.held):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_long_request_takes_memory_until_it_has_been_answered(tmp_path: Path) -> None:
    memory = Memory(64 * MIB)
    async with serving(tmp_path, memory) as (_, caller, receiving):
        for record in long(8):
            await caller.send(record)
        received = await receiving
        assert 16 * MIB <= memory.held <= 33 * MIB
        received.release()
        received.release()
        assert memory.held == 0


async def test_a_request_of_more_than_the_budget_is_received_when_it_is_alone(tmp_path: Path) -> None:
    memory = Memory(8 * MIB)
    async with serving(tmp_path, memory) as (_, caller, receiving):
        for record in long(100):
            await caller.send(record)
        received = await receiving
        assert isinstance(received.event, RequestEvent)
        assert len(received.event.request.params[0]) == 100 * MIB
        received.release()
        assert memory.held == 0


async def test_two_half_read_requests_do_not_wait_for_each_other_for_ever(tmp_path: Path) -> None:
    memory = Memory(8 * MIB)
    records = long(8)
    async with serving(tmp_path, memory, "A") as (_, one, first), serving(tmp_path, memory, "B") as (_, two, second):
        # Of each a part has come when the budget is spent.
        for caller in (one, two):
            await caller.send(records[0][: len(records[0]) // 4])
        await has(memory, lambda held: held >= 4 * MIB)
        for caller in (two, one):
            await caller.send(records[0][len(records[0]) // 4 :])
            for record in records[1:]:
                await caller.send(record)
        done, _ = await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        done.pop().result().release()
        for received in await asyncio.gather(first, second):
            received.release()
        assert memory.held == 0


async def test_of_many_that_take_no_answer_however_short_those_go_that_have_been_stuck_for_longest(
    tmp_path: Path,
) -> None:
    memory = Memory(MIB)
    ends: list[Exchange] = []
    sending: list[asyncio.Task[None]] = []
    async with AsyncExitStack() as undo:
        for _ in range(40):
            stream, peer = await undo.enter_async_context(two_ends())
            for end, option in ((stream, socket.SO_SNDBUF), (peer, socket.SO_RCVBUF)):
                end._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 4096)
            peer._writer.transport.pause_reading()  # type: ignore[attr-defined]
            connection = Connection(Role.LISTENING_SERVICE)
            ends.append(Exchange(stream, connection, FAST, Spool(tmp_path), memory=memory))
            records = [bytes(16 * 1024) for _ in range(9)]
            sending.append(asyncio.create_task(ends[-1].send_packed(records, {})))
            await has(memory, bool)
            async with asyncio.timeout(PATIENCE):
                while ends[-1].waiting_since is None:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        await has(memory, lambda held: held <= MIB)
        ended = await asyncio.gather(*sending[:30], return_exceptions=True)
        assert [type(end) for end in ended] == [Disconnected] * 30
        assert [task.done() for task in sending[-3:]] == [False] * 3
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    assert memory.held == 0


@pytest.mark.parametrize("trickle", [False, True])
async def test_a_request_whose_rest_does_not_come_is_given_up_for_another(tmp_path: Path, trickle: bool) -> None:
    memory = Memory(8 * MIB, slow=0.2)
    records = long(8)

    async def drip(caller: TcpStream) -> None:
        with suppress(OSError):
            for byte in records[0][1000:-10]:
                await caller.send(bytes([byte]))
                await asyncio.sleep(0.05)

    async with serving(tmp_path, memory, "A") as (_, one, first), serving(tmp_path, memory, "B") as (_, two, second):
        await one.send(records[0][:1000])
        await has(memory, bool)
        dripping = asyncio.create_task(drip(one) if trickle else asyncio.sleep(0))
        for record in records:
            await two.send(record)
        (await second).release()
        with pytest.raises(ProtocolError, match="the connection ended within a message"):
            await first
        assert memory.held == 0
        dripping.cancel()


async def test_a_request_that_gets_no_memory_ends_with_its_connection(tmp_path: Path) -> None:
    memory = Memory(8 * MIB)
    other = memory.share("B", Deaf())
    await other.grow(8 * MIB)
    async with serving(tmp_path, memory, receive=0.3) as (_, caller, receiving):
        for record in long(8):
            await caller.send(record)
        with pytest.raises(TimedOut, match=r"waited 0\.3 s for memory for a long message"):
            await receiving
    assert memory.held == 8 * MIB


async def test_a_cancelled_request_gives_back_what_it_took(tmp_path: Path) -> None:
    memory = Memory(64 * MIB)
    async with serving(tmp_path, memory) as (_, caller, receiving):
        await caller.send(long(8)[0][:2000])
        await has(memory, bool)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        assert memory.held == 0


async def test_files_that_come_with_a_request_take_no_memory(tmp_path: Path) -> None:
    memory = Memory(1024)
    identity, length = uuid4(), 20_000_000
    plain = encode_message(Request("1", "IService", "Method", (stream_document(identity, length),)))
    async with serving(spool_in(tmp_path / "s").delivery()._directory, memory) as (_, caller, receiving):
        await caller.send(deflate(plain) + identity.bytes_le + struct.pack("<q", length))
        for _ in range(length // 1_000_000):
            assert memory.held == 0
            await caller.send(bytes(1_000_000))
        await caller.send(struct.pack("<q", length))
        received = await receiving
        assert received.files[identity].stat().st_size == length
        received.release()


async def test_others_have_their_turns_while_a_thousand_short_files_come(tmp_path: Path) -> None:
    identities = [uuid4() for _ in range(1000)]
    files = tuple(stream_document(identity, 0) for identity in identities)
    request = encode_message(Request("1", "IService", "Method", files))
    async with serving(spool_in(tmp_path / "s").delivery()._directory, Memory()) as (_, caller, receiving):
        await caller.send(deflate(request) + b"".join(identity.bytes_le + bytes(16) for identity in identities))
        turns = 0
        while not receiving.done():
            turns += 1
            await asyncio.sleep(0)
        received = await receiving
        assert len(received.files) == 1000
        received.release()
    assert turns > 100


async def test_a_long_request_is_read_outside_the_loop(tmp_path: Path) -> None:
    records = long(120)
    async with serving(tmp_path, Memory()) as (_, caller, receiving):
        loops, everybodys = time.thread_time(), time.process_time()
        for record in records:
            await caller.send(record)
        (await receiving).release()
        loops, everybodys = time.thread_time() - loops, time.process_time() - everybodys
    assert loops < everybodys / 3


async def test_an_answer_that_nobody_takes_counts_and_the_oldest_gives_way(tmp_path: Path) -> None:
    memory = Memory(20_000_000)
    async with asked(tmp_path, 60, memory) as (one, _), asked(tmp_path, 60, memory) as (two, reader):
        first = asyncio.create_task(one.send(ResponseEvent(Response("1", HUGE))))
        await has(memory, bool)
        before = memory.held
        assert before > 10_000_000
        second = asyncio.create_task(two.send(ResponseEvent(Response("1", HUGE))))
        with pytest.raises(Disconnected, match="the connection broke while sending"):
            await first
        assert memory.held <= before
        while not second.done():
            await reader.receive()
        await second
        assert memory.held == 0


async def test_a_file_that_was_closed_while_it_is_sent_ends_the_connection(tmp_path: Path) -> None:
    """Its call was given up meanwhile."""
    name, path = uuid4(), tmp_path / "file"
    path.write_bytes(b"content")
    file = path.open("rb")
    file.close()
    async with asked(tmp_path, PATIENCE) as (exchange, _):
        records = exchange.connection.send(ResponseEvent(Response("1", stream_document(name, 7))))
        with pytest.raises(Disconnected, match="could not be read any more"):
            await exchange.send_packed(records, {name: file})
