"""What arrives is given piece by piece, all of it, and a peer's bytes take no more memory than they may."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest

from tentacle.transport.stream import TcpStream, piece_size
from tests.patience import PATIENCE
from tests.transport.harness import two_ends


async def all_of(stream: TcpStream) -> bytes:
    """What is received until the end."""
    received = b""
    async with asyncio.timeout(PATIENCE):
        while data := await stream.receive():
            received += data
    return received


async def waits(stream: TcpStream) -> list[bytes]:
    """What waits at the stream, once it has paused its peer."""
    async with asyncio.timeout(PATIENCE):
        while stream._writer.transport.is_reading():  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0)
    return list(stream._arrivals._pieces)


async def test_what_waits_is_bounded_and_nothing_of_it_is_lost() -> None:
    """Trusted peers that send and are not answered must not fill the agent's memory."""
    sent = os.urandom(8 * 1024 * 1024)
    async with two_ends() as (ours, theirs):
        sending = asyncio.create_task(theirs.send(sent))
        waiting = await waits(ours)
        assert len(b"".join(waiting)) <= 2 * piece_size()
        receiving = asyncio.create_task(all_of(ours))
        await sending
        theirs._writer.write_eof()
        assert await receiving == sent


async def test_single_bytes_count_as_what_they_take() -> None:
    async with two_ends() as (ours, theirs):

        async def dribble() -> None:
            while True:
                await theirs.send(b"x")
                await asyncio.sleep(0)

        dribbling = asyncio.create_task(dribble())
        waiting = await waits(ours)
        dribbling.cancel()
        assert len(waiting) < piece_size() // 100 + 2
        await asyncio.gather(dribbling, return_exceptions=True)


async def test_what_came_before_a_connection_broke_is_given_first() -> None:
    async with two_ends() as (ours, theirs):
        await theirs.send(b"last words")
        async with asyncio.timeout(PATIENCE):
            while not ours._arrivals._pieces:  # noqa: ASYNC110
                await asyncio.sleep(0)
        # Closed with this, a connection is reset.
        linger = struct.pack("ii", 1, 0)
        theirs._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        theirs.abort()
        async with asyncio.timeout(PATIENCE):
            while ours._arrivals.exception() is None:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert [await ours.receive(), await ours.receive()] == [b"last words", b""]
        with pytest.raises(ConnectionResetError):
            await ours._arrivals.next_piece()


async def test_who_waits_is_told_of_the_end() -> None:
    async with two_ends() as (ours, theirs):
        receiving = asyncio.create_task(ours.receive())
        await asyncio.sleep(0)
        theirs._writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            assert await receiving == b""


async def test_who_gave_up_waiting_loses_nothing() -> None:
    async with two_ends() as (ours, theirs):
        receiving = asyncio.create_task(ours.receive())
        await asyncio.sleep(0)
        receiving.cancel()
        await theirs.send(b"later")
        await asyncio.gather(receiving, return_exceptions=True)
        async with asyncio.timeout(PATIENCE):
            assert await ours.receive() == b"later"
