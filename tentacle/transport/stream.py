"""The network as an interface under a page, and TCP as its first form.  `tls` is the second."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from tentacle.transport.errors import TimedOut
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.connect import authority

RECEIVE_SIZE = 256 * 1024
_MUCH = 64 * 1024
"""With this many bytes still unsent, a sender has to wait; asyncio's own limit."""


class ByteStream(Protocol):
    """An ordered, reliable stream of bytes in both directions."""

    async def receive(self) -> bytes:
        """Waits for bytes and returns at least one; `b""` when the peer has closed or vanished."""

    async def send(self, data: bytes) -> None:
        """Hands `data` over to the network.  Raises `OSError` when the connection is broken."""

    def send_now(self, data: bytes) -> bool:
        """Sends without waiting.  Returns False when `drained` must be awaited before more is sent."""

    async def drained(self) -> None:
        """Returns when the network has taken most of what it was given.  Raises `OSError` as `send` does."""

    async def aclose(self) -> None:
        """Closes the stream, without waiting for the peer."""

    def abort(self) -> None:
        """Drops the connection without another byte."""


class TcpStream:
    """A TCP connection.  A vanished peer looks like one that has closed (docs/spec/wire.md, "Ending a connection")."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeouts: Timeouts) -> None:
        self._reader = reader
        self._writer = writer
        keep_alive(writer.get_extra_info("socket"), timeouts)

    @property
    def peer(self) -> str:
        return format_address(self._writer.get_extra_info("peername"))

    async def receive(self) -> bytes:
        try:
            return await self._reader.read(RECEIVE_SIZE)
        except OSError:
            return b""

    async def send(self, data: bytes) -> None:
        self.post(data)
        await self._writer.drain()

    def send_now(self, data: bytes) -> bool:
        transport = self._writer.transport
        if transport.is_closing():
            raise ConnectionResetError("the connection has been closed")
        self.post(data)
        return transport.get_write_buffer_size() < _MUCH

    async def drained(self) -> None:
        await self._writer.drain()

    def post(self, data: bytes) -> None:
        """Queues `data` without waiting for room: for the few bytes that must go out during a `receive`."""
        self._writer.write(data)

    def abort(self) -> None:
        """Drops the connection without another byte."""
        self._writer.transport.abort()

    async def aclose(self) -> None:
        """Closes.  What was sent is still delivered, but a peer that does not take it is given five seconds only."""
        self._writer.close()
        # The peer may have gone already.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                await self._writer.wait_closed()
        self._writer.transport.abort()


def keep_alive(sock: socket.socket, timeouts: Timeouts) -> None:
    """Lets the system notice a peer that vanished without closing (docs/spec/wire.md, "TCP")."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, timeouts.keep_alive_idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, timeouts.keep_alive_interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, timeouts.keep_alive_count)


def format_address(address: object) -> str:
    """`host:port` of a socket address, with an IPv6 host in brackets."""
    if not isinstance(address, tuple) or len(address) < 2:
        return "an unknown address"
    return authority(str(address[0]), address[1])


class limit:  # noqa: N801 - used as one uses `asyncio.timeout`
    """Raises `TimedOut` naming `what` was waited for after `seconds`.

    A class, because every call uses several, and a generator takes twice the time.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self._seconds = seconds
        self._what = what
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as passed:
            raise TimedOut(f"waited {self._seconds:g} s for {self._what}") from passed
        if isinstance(error, TimeoutError):
            # The system's own limit, for a peer that takes nothing any more.
            raise TimedOut(f"waited too long for {self._what}") from error
