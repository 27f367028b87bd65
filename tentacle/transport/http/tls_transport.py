"""A `TlsStream` as asyncio's protocols want their transport: they are called with what arrives, and write at any time.

Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from tentacle.transport.errors import TimedOut
from tentacle.transport.stream import ByteStream, limit


class TlsTransport(asyncio.Transport):
    """`run` carries a protocol over `stream`, until either end closes.

    A peer that takes nothing of what was sent for `send_timeout` seconds is given up.
    """

    def __init__(self, stream: ByteStream, protocol: asyncio.Protocol, send_timeout: float) -> None:
        super().__init__()
        self._stream: ByteStream | None = stream
        self._protocol = protocol
        self._send_timeout = send_timeout
        self._closing = False
        self._draining: asyncio.Task[None] | None = None
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._scope: asyncio.Timeout | None = None
        self._deadline: float | None = None

    async def run(self, first: bytes) -> None:
        """Carries the protocol, which begins with `first` if that is not empty.  The stream's owner closes it."""
        lost: Exception | None = None
        assert self._stream is not None, "a connection is carried once"
        stream = self._stream
        try:
            async with asyncio.timeout(None) as self._scope:
                self._protocol.connection_made(self)
                data = first or await stream.receive()
                while data and not self._closing:
                    self._protocol.data_received(data)
                    await self._may_read.wait()
                    data = await stream.receive()
        except TimeoutError:
            # The deadline has passed, or the protocol has closed.
            pass
        finally:
            broken = not self._closing
            self._closing = True
            if self._draining is not None:
                self._draining.cancel()
            if broken:
                lost = ConnectionResetError("the peer has closed the connection")
            self._protocol.connection_lost(lost)
            # Protocols and their requests refer to each other and to this: what TLS keeps of a connection must not wait
            # with them for the garbage collector.
            self._stream, self._protocol, self._scope = None, asyncio.Protocol(), None

    def end_at(self, when: float | None) -> None:
        """The connection ends at this time of the loop's clock, unless another is set before."""
        if self._scope is not None and not self._closing and when != self._deadline:
            self._deadline = when
            self._scope.reschedule(when)

    # --- what asyncio asks of a transport ---------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._stream is None:
            return
        try:
            room = self._stream.send_now(bytes(data))
        except OSError:
            self.abort()
            return
        if not room and self._draining is None:
            self._protocol.pause_writing()
            self._draining = asyncio.create_task(self._drain())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """What was written is still sent."""
        self.end_at(0)
        self._closing = True

    def abort(self) -> None:
        if self._stream is not None:
            self._stream.abort()
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def is_reading(self) -> bool:
        return self._may_read.is_set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    async def _drain(self) -> None:
        try:
            if self._stream is not None:
                async with limit(self._send_timeout, "the peer to take what was sent"):
                    await self._stream.drained()
        except (TimedOut, OSError):
            self.abort()
            return
        self._draining = None
        self._protocol.resume_writing()
