"""Streams over TCP: a peer that has gone, one that takes nothing, and how long anything is waited for."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from contextlib import AsyncExitStack

import pytest

from tentacle.transport.errors import TimedOut
from tentacle.transport.stream import TcpStream, format_address, keep_alive, limit, piece_size
from tentacle.transport.timeouts import Timeouts
from tests.patience import PATIENCE
from tests.transport.harness import two_ends

MUCH = b"x" * 30_000_000
"""More than the system holds for a peer that does not read."""


def socket_of(stream: TcpStream) -> socket.socket:
    found: socket.socket = stream._writer.get_extra_info("socket")
    return found


def reset(stream: TcpStream) -> None:
    """Ends the connection as the system of a program that has crashed does."""
    socket_of(stream).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.abort()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("192.0.2.1", 10933), "192.0.2.1:10933"),
        (("2001:db8::1", 10933, 0, 0), "[2001:db8::1]:10933"),
        (None, "an unknown address"),
        ((), "an unknown address"),
        (("192.0.2.1",), "an unknown address"),
        ("/run/socket", "an unknown address"),
    ],
)
def test_addresses_are_shown(address: object, shown: str) -> None:
    assert format_address(address) == shown


async def test_a_stream_knows_its_peer() -> None:
    async with two_ends() as (stream, peer):
        host, port = socket_of(peer).getsockname()
        assert stream.peer == f"{host}:{port}"


async def test_the_system_looks_for_peers_that_have_vanished() -> None:
    timeouts = Timeouts(keep_alive_idle=11, keep_alive_interval=7, keep_alive_count=3)
    async with two_ends(timeouts) as (stream, _):
        sock = socket_of(stream)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [11, 7, 3]


def test_a_connection_that_is_not_of_tcp_is_no_error() -> None:
    one, other = socket.socketpair()
    with one, other:
        keep_alive(one, Timeouts())


async def test_what_is_sent_is_received_to_the_last_byte() -> None:
    async with two_ends() as (stream, peer), asyncio.timeout(PATIENCE):
        await stream.send(b"hello ")
        await stream.send(b"there")
        await stream.aclose()
        data = b""
        while more := await peer.receive():
            data += more
        assert data == b"hello there"
        assert await peer.receive() == b""


async def test_a_peer_that_has_crashed_looks_like_one_that_has_closed() -> None:
    async with two_ends() as (stream, peer), asyncio.timeout(PATIENCE):
        reset(peer)
        assert await stream.receive() == b""
        with pytest.raises(ConnectionError):
            while True:
                await stream.send(b"x" * 1000)


async def test_nothing_is_sent_on_a_connection_that_was_dropped() -> None:
    async with two_ends() as (stream, peer), asyncio.timeout(PATIENCE):
        assert stream.send_now(b"little") is True
        assert await peer.receive() == b"little"
        stream.abort()
        with pytest.raises(ConnectionResetError, match="the connection has been closed"):
            stream.send_now(b"more")
        assert await peer.receive() == b""


async def test_a_sender_waits_for_a_peer_that_does_not_read() -> None:
    async with two_ends() as (stream, peer), asyncio.timeout(PATIENCE):
        assert stream.send_now(MUCH) is False
        drained = asyncio.create_task(stream.drained())
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert not drained.done()
        received = 0
        while not drained.done():
            received += len(await peer.receive())
            await asyncio.sleep(0)
        await drained
        assert received > len(MUCH) // 2


async def test_a_peer_that_does_not_read_has_not_taken_what_it_was_sent() -> None:
    async with two_ends() as (stream, peer), asyncio.timeout(PATIENCE):
        assert stream.send_now(b"first", MUCH) is False
        settled = asyncio.create_task(stream.settled())
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert not settled.done()
        received = 0
        while received < len(MUCH):
            received += len(await peer.receive())
        await settled


async def test_a_connection_that_has_gone_settles() -> None:
    async with two_ends() as (stream, _), asyncio.timeout(PATIENCE):
        stream.send_now(MUCH)
        stream.abort()
        await stream.settled()


async def test_the_bytes_that_are_posted_need_no_room() -> None:
    async with two_ends() as (stream, peer), asyncio.timeout(PATIENCE):
        stream.post(b"posted")
        assert await peer.receive() == b"posted"


async def test_a_peer_that_takes_nothing_holds_no_close_up_for_long() -> None:
    async with two_ends() as (stream, peer):
        stream.post(MUCH)
        before = time.monotonic()
        received = 0
        async with asyncio.timeout(PATIENCE):
            await stream.aclose()
            assert time.monotonic() - before > 4, "one that takes it slowly would have lost it"
            while more := await peer.receive():
                received += len(more)
        assert received < len(MUCH), "the rest was dropped"


async def test_what_takes_too_long_is_named_with_its_limit() -> None:
    with pytest.raises(TimedOut, match=r"^waited 0\.05 s for the answer$"):
        async with limit(0.05, "the answer"):
            await asyncio.Event().wait()


async def test_a_limit_of_the_system_is_told_in_the_same_words() -> None:
    with pytest.raises(TimedOut, match=r"^waited too long for the answer$"):
        async with limit(30, "the answer"):
            raise TimeoutError(110, "Connection timed out")


async def test_a_limit_changes_nothing_else() -> None:
    async with limit(30, "the answer"):
        await asyncio.sleep(0)
    with pytest.raises(ConnectionResetError):
        async with limit(30, "the answer"):
            raise ConnectionResetError

    async def forever() -> None:
        async with limit(30, "the answer"):
            await asyncio.Event().wait()

    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_more_connections_there_are_the_smaller_are_the_pieces() -> None:
    before = piece_size()
    async with AsyncExitStack() as ends:
        for _ in range(80):
            await ends.enter_async_context(two_ends())
        assert before > piece_size() >= 16 * 1024
    await asyncio.sleep(0.01)
    assert piece_size() == before
