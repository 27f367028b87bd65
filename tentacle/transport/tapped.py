"""A byte stream that somebody looks on at.  Must not know who, or what for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tentacle.transport.stream import ByteStream
from tentacle.wire.call_context import Wire


class WireTap(Protocol):
    """Is told of all bytes of one connection, and how it ends.  Must not raise."""

    def received(self, data: bytes) -> None: ...

    def sent(self, data: bytes) -> None: ...

    def closed(self, by: str) -> None:
        """By the `server` or the `agent`."""


Tapping = Callable[[str, str, str, Wire], WireTap]
"""Makes one: who has dialled (`server` or `agent`), the version of TLS, the peer's address, and what is spoken."""


class Versioned(ByteStream, Protocol):
    """A stream inside TLS."""

    @property
    def version(self) -> str:
        """That of TLS."""


def tapped(
    stream: Versioned, tapping: Tapping | None, dialled_by: str, peer: str, wire: Wire, had: bytes = b""
) -> ByteStream:
    """The stream itself where nobody looks on.  `had` has been received before."""
    if tapping is None:
        return stream
    used = TappedStream(stream, tapping(dialled_by, stream.version, peer, wire))
    used.had(had)
    return used


class TappedStream:
    """Passes everything on to `inner`, and tells `tap` of it."""

    def __init__(self, inner: ByteStream, tap: WireTap) -> None:
        self._inner = inner
        self._tap = tap
        self._ended = False

    def had(self, data: bytes) -> None:
        """These bytes have been received before."""
        if data:
            self._tap.received(data)

    async def receive(self) -> bytes:
        data = await self._inner.receive()
        if data:
            self._tap.received(data)
        else:
            self._end("server")
        return data

    async def send(self, data: bytes) -> None:
        self._tap.sent(data)
        await self._inner.send(data)

    def send_now(self, *pieces: bytes) -> bool:
        for data in pieces:
            self._tap.sent(data)
        return self._inner.send_now(*pieces)

    async def drained(self) -> None:
        await self._inner.drained()

    @property
    def unsent(self) -> int:
        return self._inner.unsent

    async def settled(self) -> None:
        await self._inner.settled()

    async def aclose(self) -> None:
        self._end("agent")
        await self._inner.aclose()

    def abort(self) -> None:
        self._end("agent")
        self._inner.abort()

    def over(self) -> None:
        """Nobody uses it any more.  May be repeated."""
        self._end("agent")

    def _end(self, by: str) -> None:
        if not self._ended:
            self._ended = True
            self._tap.closed(by)
