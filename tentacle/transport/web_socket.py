"""Halibut inside a WebSocket (docs/spec/wire.md, "WebSockets"): a `ByteStream` over another one, from either end.

Knows when to send what the protocol owes, and keeps the way there open.  Must not know Halibut.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

from tentacle.transport.address import Address
from tentacle.transport.dial import dial
from tentacle.transport.errors import ConnectFailed
from tentacle.transport.proxy_logins import ProxyLogins
from tentacle.transport.stream import ByteStream, limit
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity, TlsStream
from tentacle.wire.connect import ascii_host, authority
from tentacle.wire.errors import ProtocolError
from tentacle.wire.limits import Limits
from tentacle.wire.web_socket import UpgradeRefused, WebSocket, asks_for_web_socket

_HTTPS_PORT = 443
_PIECES_AT_ONCE = 256
"""Frames that are read before others have their turn: a peer may make them as short as a byte."""
_MOST_OWED = 16 * 1024
"""With so many bytes unsent no ping is answered: their sender does not read."""


async def dial_web_socket(
    address: Address, identity: TlsIdentity, timeouts: Timeouts, logins: ProxyLogins | None = None
) -> WebSocketStream:
    """Returns a connection to the web socket at `address`; raises as `dial` does, and `ConnectFailed` for a web server
    that opens none there.
    """
    async with AsyncExitStack() as undo:
        tls = await dial(address, identity, timeouts, logins)
        undo.callback(tls.abort)
        port = address.port
        host = authority(ascii_host(address.host), port)
        host = host if port != _HTTPS_PORT else host.removesuffix(f":{port}")
        try:
            socket = WebSocket.dialled(host, address.web_socket or "/")
            stream = WebSocketStream(tls, socket, tls.version, timeouts.web_socket_keep_alive)
            async with limit(timeouts.receive, f"the web socket at {address}"):
                await stream.open()
        except (ProtocolError, OSError) as error:
            missing = isinstance(error, UpgradeRefused) and error.status is not None
            hint = "check the path of the address, and that the server listens for web sockets" if missing else None
            raise ConnectFailed(f"{address} opens no web socket: {error}", hint=hint) from error
        undo.pop_all()
    return stream


async def accept_web_socket(stream: TlsStream, first: bytes, path: str) -> tuple[WebSocketStream | None, bytes]:
    """The other end, for a request that asks for a web socket; `first` has been received already.

    Of any other request, `None` and what has arrived of it.  Raises `ProtocolError` for one that is refused.
    """
    head = first
    while (wanted := asks_for_web_socket(head)) is None and len(head) < Limits().preface:
        if not (data := await stream.receive()):
            break
        head += data
    if not wanted:
        return None, head
    accepted = WebSocketStream(stream, WebSocket.accepted(path), stream.version)
    await accepted.open(head)
    return accepted, b""


class WebSocketStream:
    """A WebSocket over `inner`.  `open` it first.  Each piece that is sent is one frame.

    With `keep_alive` something is sent every so many seconds, until it is closed or aborted.
    """

    def __init__(self, inner: ByteStream, socket: WebSocket, version: str, keep_alive: float | None = None) -> None:
        self.version = version
        """That of TLS."""
        self._inner = inner
        self._socket = socket
        self._every = keep_alive
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, first: bytes = b"") -> None:
        """Makes the handshake; `first` has been received before.

        Raises `ProtocolError`, and `OSError` when the connection is broken.
        """
        try:
            if first:
                self._socket.receive_data(first)
            while not self._socket.handshake():
                await self._inner.send(self._socket.owed())
                self._socket.receive_data(await self._inner.receive())
        finally:
            if owed := self._socket.owed():
                with suppress(OSError):
                    await self._inner.send(owed)
        self._wait_to_keep_alive()

    async def receive(self) -> bytes:
        """Raises `ProtocolError` when the peer breaks the rules of web sockets."""
        pieces: list[bytes] = []
        while True:
            try:
                while len(pieces) < _PIECES_AT_ONCE and (piece := self._socket.next_piece()):
                    pieces.append(piece)
            finally:
                self._send_owed()
            if len(pieces) == _PIECES_AT_ONCE:
                await asyncio.sleep(0)
            if pieces or piece is not None:
                return b"".join(pieces)
            self._socket.receive_data(await self._inner.receive())

    async def send(self, data: bytes) -> None:
        await self._inner.send(self._socket.frame(data))

    def send_now(self, *pieces: bytes) -> bool:
        return self._inner.send_now(*map(self._socket.frame, pieces))

    async def drained(self) -> None:
        await self._inner.drained()

    @property
    def unsent(self) -> int:
        return self._inner.unsent

    async def settled(self) -> None:
        """Nothing to wait for: a reader gets the bytes of one frame at a time, whatever else has arrived."""

    async def aclose(self) -> None:
        """Tells the peer that nothing more will be sent, and closes."""
        self._stop()
        with suppress(OSError):
            if closing := self._socket.close():
                self._inner.send_now(closing)
        await self._inner.aclose()

    def abort(self) -> None:
        self._stop()
        self._inner.abort()

    def _send_owed(self) -> None:
        if self._inner.unsent <= _MOST_OWED and (owed := self._socket.owed()):
            with suppress(OSError):
                self._inner.send_now(owed)

    def _wait_to_keep_alive(self) -> None:
        if self._every is not None:
            self._timer = asyncio.get_running_loop().call_later(self._every, self._keep_alive)

    def _keep_alive(self) -> None:
        """Sends something, as what stands in between may drop a connection on which nothing is sent."""
        with suppress(OSError):
            if not self._inner.unsent and (alive := self._socket.keep_alive()):
                self._inner.send_now(alive)
            self._wait_to_keep_alive()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
