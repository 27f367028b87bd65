"""What a trusted peer can do to the port by HTTPS, as `benchmarks.strangers` does it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

MIB = 1024 * 1024
CHATTER = "https-chatter"
TALK = "for i in $(seq 1 200000); do echo $i-$RANDOM$RANDOM$RANDOM-$RANDOM$RANDOM; done; sleep 600"


class Peer(Protocol):
    async def tls(
        self, *, trusted: bool = False, narrow: bool = False
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...


def head(method: str, path: str, *fields: str) -> bytes:
    return "".join(f"{one}\r\n" for one in (f"{method} {path} HTTP/1.1", "Host: agent", *fields, "")).encode()


async def _connected(peer: Peer, *, narrow: bool = False) -> asyncio.StreamWriter:
    _, writer = await peer.tls(trusted=True, narrow=narrow)
    if narrow:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
    return writer


async def idle(peer: Peer, _number: int) -> None:
    reader, writer = await peer.tls(trusted=True)
    writer.write(head("GET", "/openapi.json"))
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.Event().wait()


async def idle_in_thousands(peer: Peer, number: int) -> None:
    """Stays as long as it may."""
    await asyncio.sleep(number / 200)
    reader, writer = await peer.tls(trusted=True)
    writer.write(head("HEAD", "/openapi.json"))
    await reader.read()
    writer.close()


async def comes_again(peer: Peer, number: int) -> None:
    """Comes again when it is closed, as a pool of connections does: more than there are places for."""
    while True:
        await idle_in_thousands(peer, number)


async def drips_a_head(peer: Peer, _number: int) -> None:
    writer = await _connected(peer)
    writer.write(head("GET", "/openapi.json")[:-2])
    while True:
        writer.write(b"X: 1\r\n")
        await asyncio.sleep(0.2)


async def drips_a_body(peer: Peer, _number: int) -> None:
    writer = await _connected(peer)
    writer.write(
        head("POST", "/rpc", "Content-Type: application/json", f"Content-Length: {16 * MIB}") + bytes(12 * MIB)
    )
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.2)


async def drips_an_upload(peer: Peer, number: int) -> None:
    writer = await _connected(peer)
    writer.write(head("PUT", f"/files/slow-{number}", f"Content-Length: {16 * MIB}") + bytes(MIB))
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.2)


async def follows_and_never_reads(peer: Peer, _number: int) -> None:
    writer = await _connected(peer, narrow=True)
    writer.write(head("GET", f"/scripts/{CHATTER}/log"))
    await asyncio.Event().wait()


async def never_takes_a_file(peer: Peer, _number: int) -> None:
    writer = await _connected(peer, narrow=True)
    writer.write(head("GET", f"/files/{sys.executable}"))
    await asyncio.Event().wait()


async def asks_on_and_on_and_never_reads(peer: Peer, _number: int) -> None:
    writer = await _connected(peer, narrow=True)
    while True:
        writer.write(head("GET", "/openapi.json") * 1000)
        await writer.drain()


def _again_and_again(body: bytes) -> Callable[[Peer, int], Awaitable[None]]:
    async def attack(peer: Peer, _number: int) -> None:
        reader, writer = await peer.tls(trusted=True)
        while True:
            writer.write(head("POST", "/rpc", "Content-Type: application/json", f"Content-Length: {len(body)}") + body)
            await writer.drain()
            await reader.readuntil(b"}}")

    return attack


ATTACKS: dict[str, tuple[Callable[[Peer, int], Awaitable[None]], int]] = {
    "https, idle": (idle, 1000),
    "https, 10,000 idle": (idle_in_thousands, 10_000),
    "https, 10,000 come again": (comes_again, 10_000),
    "https, drips heads": (drips_a_head, 500),
    "https, drips bodies of /rpc": (drips_a_body, 100),
    "https, drips uploads": (drips_an_upload, 200),
    "https, follows and never reads": (follows_and_never_reads, 500),
    "https, never takes a file": (never_takes_a_file, 500),
    "https, pipelines and never reads": (asks_on_and_on_and_never_reads, 50),
    "https, nests 16 MiB": (_again_and_again(b"[" * (16 * MIB)), 8),
    "https, 8 million values": (_again_and_again(b"[" + b"1," * (8 * MIB - 2) + b"1]"), 8),
    "https, 16 MiB of a text": (_again_and_again(b'["' + b"x" * (16 * MIB - 4) + b'"]'), 8),
}
