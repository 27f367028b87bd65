"""What TLS has to answer by itself takes a bounded amount of memory, whatever a peer does that does not read it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tentacle.transport.stream import RECEIVE_SIZE
from tentacle.transport.tls import TlsStream
from tests.patience import PATIENCE
from tests.pki import identity, write_pem
from tests.transport.harness import two_ends
from tests.transport.raw_tls import ALERT, DATA, HANDSHAKE, RecordWriter, shake_hands, writing_context

Flood = Callable[[RecordWriter], bytes]


def requests_updates(writer: RecordWriter) -> bytes:
    return writer.key_update()


def requests_updates_and_says_something(writer: RecordWriter) -> bytes:
    return writer.key_update() + writer.record(DATA, b"x")


def of(kind: int, content: bytes) -> Flood:
    def flood(writer: RecordWriter) -> bytes:
        return writer.record(kind, content)

    return flood


FLOODS = {
    "key updates": requests_updates,
    "key updates and data": requests_updates_and_says_something,
    "a key update that is none": of(HANDSHAKE, b"\x18\x00\x00\x01\x07"),
    "warnings": of(ALERT, b"\x01\x5a"),
    "a fatal alert": of(ALERT, b"\x02\x50"),
    "heartbeats": of(24, b"\x01\x00\x10" + bytes(32)),
    "changes of cipher": of(20, b"\x01"),
    "hello": of(HANDSHAKE, b"\x01\x00\x00\x26" + b"\x03\x03" + bytes(36)),
    "hello requests": of(HANDSHAKE, b"\x00\x00\x00\x00"),
    "hello retry": of(HANDSHAKE, b"\x02\x00\x00\x26" + b"\x03\x03" + bytes(36)),
    "a ticket": of(HANDSHAKE, b"\x04\x00\x00\x0d" + b"\x00\x00\x1c\x20" + bytes(4) + b"\x00" + b"\x00\x01x" + b"\0\0"),
    "requests for a certificate": of(HANDSHAKE, b"\x0d\x00\x00\x0b\x00\x00\x08\x00\x0d\x00\x04\x00\x02\x08\x04"),
    "a certificate": of(HANDSHAKE, b"\x0b\x00\x00\x04\x00\x00\x00\x00"),
    "finished": of(HANDSHAKE, b"\x14\x00\x00\x30" + bytes(48)),
    "the end of early data": of(HANDSHAKE, b"\x05\x00\x00\x00"),
    "nothing": of(DATA, b""),
    "half a message": of(HANDSHAKE, b"\x18\xff\xff\xff" + bytes(1000)),
}


@pytest.mark.parametrize("we_accept", [True, False], ids=["accepting", "dialling"])
@pytest.mark.parametrize("name", FLOODS)
async def test_a_peer_that_does_not_read_what_tls_answers(tmp_path: Path, name: str, we_accept: bool) -> None:
    flood, key_log = FLOODS[name], tmp_path / "keys"
    context = writing_context(key_log, server=not we_accept)
    context.load_cert_chain(*write_pem("server", tmp_path))
    async with two_ends() as (ours, theirs):
        for end, option in ((ours, socket.SO_SNDBUF), (theirs, socket.SO_RCVBUF)):
            end._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 4096)
        shaking = asyncio.create_task(shake_hands(theirs.receive, theirs.post, context, key_log, server=not we_accept))
        own = identity("agent").context()
        stream = await (TlsStream.accept(ours, own) if we_accept else TlsStream.connect(ours, own, "127.0.0.1", None))
        records = await shaking
        theirs._writer.transport.pause_reading()  # type: ignore[attr-defined]

        async def attack() -> None:
            for _ in range(20):
                await theirs.send(b"".join(flood(records) for _ in range(1000)))
            theirs._writer.write_eof()

        most = 0
        attacking = asyncio.create_task(attack())
        async with asyncio.timeout(PATIENCE):
            while await stream.receive():
                most = max(most, ours.unsent)
        assert max(most, ours.unsent) <= RECEIVE_SIZE
        stream.abort()
        attacking.cancel()
        with suppress(asyncio.CancelledError, OSError):
            await attacking


async def test_a_peer_that_keeps_tls_busy_and_says_little_is_gone_though_it_reads(tmp_path: Path) -> None:
    key_log = tmp_path / "keys"
    context = writing_context(key_log)
    async with two_ends() as (ours, theirs):
        shaking = asyncio.create_task(shake_hands(theirs.receive, theirs.post, context, key_log))
        stream = await TlsStream.accept(ours, identity("agent").context())
        records = await shaking

        async def talk(updates: int, says: bytes) -> None:
            for _ in range(updates):
                await theirs.send(records.key_update() + records.record(DATA, says))

        received = 0

        async def hear(size: int) -> bytes:
            nonlocal received
            while received < size and (data := await stream.receive()):
                received += len(data)
                while theirs._arrivals._pieces:
                    await theirs.receive()
            return data

        async with asyncio.timeout(PATIENCE):
            talking = asyncio.create_task(talk(2000, bytes(4096)))
            assert await hear(2000 * 4096), "who sends much may update its keys as often"
            await talking
            talking = asyncio.create_task(talk(2000, b"x"))
            # One more than is sent: what came before the end may have come in one piece with it.
            assert not await hear(received + 2001)
        talking.cancel()
        with suppress(asyncio.CancelledError, OSError):
            await talking
