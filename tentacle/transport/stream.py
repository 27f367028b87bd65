"""The network as an interface under a page, and TCP as its first form.  `tls` is the second."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import sys
import threading
from contextlib import suppress
from functools import cached_property
from types import TracebackType
from typing import Protocol

from tentacle.transport.arrivals import Arrivals
from tentacle.transport.errors import TimedOut
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.connect import authority

RECEIVE_SIZE = 256 * 1024
_SMALLEST_PIECE = 16 * 1024
_ALL_PIECES = 16 * 1024 * 1024
_MUCH = 64 * 1024
"""With this many bytes still unsent, a sender has to wait; asyncio's own limit."""
_GAP = 0.01
"""Seconds that an old peer is given to take what has arrived before more arrives (docs/spec/wire.md,
"Records and old peers").
"""
_SIOCOUTQNSD = 0x894B
"""How many bytes the system has not sent yet (linux/sockios.h)."""


class ByteStream(Protocol):
    """An ordered, reliable stream of bytes in both directions."""

    async def receive(self) -> bytes:
        """Waits for bytes and returns at least one; `b""` when the peer has closed or vanished."""

    async def send(self, data: bytes) -> None:
        """Hands `data` over to the network.  Raises `OSError` when the connection is broken."""

    def send_now(self, *pieces: bytes) -> bool:
        """Sends the pieces together and without waiting, each as `send` would.

        Returns False when `drained` must be awaited before more is sent.
        """

    async def drained(self) -> None:
        """Returns when the network has taken most of what it was given.  Raises `OSError` as `send` does."""

    @property
    def unsent(self) -> int:
        """How many bytes the network has not taken yet."""

    async def settled(self) -> None:
        """Returns when a peer that takes what is there has most likely taken all that it was sent, and no more."""

    async def aclose(self) -> None:
        """Closes the stream, without waiting for the peer."""

    def abort(self) -> None:
        """Drops the connection without another byte."""


class _Scratch(threading.local):
    """Where a thread's event loop receives: what has arrived is copied out at once, and nothing else is held."""

    @cached_property
    def room(self) -> memoryview:
        return memoryview(bytearray(RECEIVE_SIZE))


class _BoundedProtocol(asyncio.StreamReaderProtocol, asyncio.BufferedProtocol):
    """Receives in pieces that are the smaller the more connections there are, and has nobody wait for TCP.

    A peer's bytes wait here until somebody asks for them.  asyncio alone takes up to 768 KiB from each connection.
    """

    _scratch = _Scratch()
    _open = 0
    _piece_size = RECEIVE_SIZE

    @classmethod
    def piece_size(cls) -> int:
        return cls._piece_size

    @classmethod
    def _count(cls, more: int) -> None:
        cls._open += more
        cls._piece_size = max(_SMALLEST_PIECE, min(RECEIVE_SIZE, _ALL_PIECES // max(cls._open, 1)))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _BoundedProtocol._count(1)
        self._socket: socket.socket = transport.get_extra_info("socket")
        # asyncio does so only where the socket was made with the protocol's number.
        _set_tcp_option(self._socket, socket.TCP_NODELAY)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        _BoundedProtocol._count(-1)
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch.room[: self._piece_size]

    def buffer_updated(self, nbytes: int) -> None:
        # A peer that writes in small pieces waits with the next one for our acknowledgement (docs/spec/wire.md, "TCP").
        # The system goes back to delaying it by itself.
        _set_tcp_option(self._socket, socket.TCP_QUICKACK)
        self.data_received(bytes(self._scratch.room[:nbytes]))


def _set_tcp_option(sock: socket.socket, option: int) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, option, 1)
    except OSError:
        # The connection has broken, and whoever uses it is about to hear of that.
        return


piece_size = _BoundedProtocol.piece_size
"""How many bytes of one connection may be in memory at once, on their way in or out."""


async def connect_tcp(host: str, port: int, timeouts: Timeouts) -> TcpStream:
    """A connection to the first address of `host` that answers.  Raises `OSError`."""
    protocol, arrivals = _make_protocol()
    # Only for names: cancelled at the wrong moment, a race of addresses leaves a socket to the collector.
    delay = None if is_address(host) else 0.25
    transport, _ = await asyncio.get_running_loop().create_connection(
        lambda: protocol, host, port, happy_eyeballs_delay=delay
    )
    return TcpStream(arrivals, _writer(transport, protocol, arrivals), timeouts)


async def adopt_tcp(sock: socket.socket, timeouts: Timeouts) -> TcpStream:
    """A connection that has been accepted.  Raises `OSError`."""
    protocol, arrivals = _make_protocol()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, sock)
    return TcpStream(arrivals, _writer(transport, protocol, arrivals), timeouts)


def is_address(host: str) -> bool:
    """True for an IP literal, for which no server name is sent (docs/spec/wire.md, "TLS")."""
    return ":" in host or host.replace(".", "").isdecimal()


def _make_protocol() -> tuple[_BoundedProtocol, Arrivals]:
    loop = asyncio.get_running_loop()
    arrivals = Arrivals(piece_size(), loop)
    return _BoundedProtocol(arrivals, loop=loop), arrivals


def _writer(transport: asyncio.Transport, protocol: _BoundedProtocol, arrivals: Arrivals) -> asyncio.StreamWriter:
    return asyncio.StreamWriter(transport, protocol, arrivals, asyncio.get_running_loop())


class TcpStream:
    """A TCP connection.  A vanished peer looks like one that has closed (docs/spec/wire.md, "Ending a connection")."""

    def __init__(self, arrivals: Arrivals, writer: asyncio.StreamWriter, timeouts: Timeouts) -> None:
        self._arrivals = arrivals
        self._writer = writer
        self._held = b""
        self._socket: socket.socket = writer.get_extra_info("socket")
        keep_alive(self._socket, timeouts)

    @property
    def peer(self) -> str:
        return format_address(self._writer.get_extra_info("peername"))

    async def receive(self) -> bytes:
        if self._held:
            held, self._held = self._held, b""
            return held
        try:
            return await self._arrivals.next_piece()
        except OSError:
            return b""

    async def send(self, data: bytes) -> None:
        self.post(data)
        await self._writer.drain()

    def send_now(self, *pieces: bytes) -> bool:
        transport = self._writer.transport
        if transport.is_closing():
            raise ConnectionResetError("the connection has been closed")
        self.post(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return self.unsent < _MUCH

    async def drained(self) -> None:
        await self._writer.drain()

    @property
    def unsent(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    async def settled(self) -> None:
        left = True
        while left:
            await asyncio.sleep(_GAP)
            left = self.unsent > 0 or _held_back(self._socket) > 0

    def post(self, data: bytes) -> None:
        """Queues `data` without waiting for room: for the few bytes that must go out during a `receive`."""
        self._writer.write(data)

    def push_back(self, data: bytes) -> None:
        """Lets the next `receive` return `data`, which was received before."""
        self._held = data

    def abort(self) -> None:
        """Drops the connection without another byte."""
        self._writer.transport.abort()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """What is sent and received from now on is inside TLS.  Raises `ssl.SSLError` or `OSError`."""
        await self._writer.start_tls(context, server_hostname=host)

    @property
    def version(self) -> str:
        """That of TLS, or nothing."""
        inside = self._writer.get_extra_info("ssl_object")
        return "" if inside is None else str(inside.version())

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


def _held_back(sock: socket.socket) -> int:
    """The bytes that the system holds back; none where it cannot say or the connection has gone."""
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), _SIOCOUTQNSD, bytes(4)), sys.byteorder)
    except (OSError, ValueError):
        return 0


def format_address(address: object) -> str:
    """`host:port` of a socket address, with an IPv6 host in brackets."""
    if not isinstance(address, tuple) or len(address) < 2:
        return "an unknown address"
    return authority(str(address[0]), address[1])


class limit:  # noqa: N801 - used as one uses `asyncio.timeout`
    """Raises `TimedOut` naming `what` was waited for after `seconds`.

    Does what `asyncio.timeout` does, in half as many steps: every call uses several.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self._seconds = seconds
        self._what = what
        self._passed = False

    async def __aenter__(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None, "whoever waits is a task"
        self._task = task
        self._others = task.cancelling()
        self._timer = loop.call_later(self._seconds, self._pass)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # Somebody else may have cancelled the task too, and then that is what has happened.
        if self._passed and self._task.uncancel() <= self._others and kind is asyncio.CancelledError:
            raise TimedOut(f"waited {self._seconds:g} s for {self._what}") from error
        if isinstance(error, TimeoutError):
            # The system's own limit, for a peer that takes nothing any more.
            raise TimedOut(f"waited too long for {self._what}") from error

    def _pass(self) -> None:
        self._passed = True
        self._task.cancel()
