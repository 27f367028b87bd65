"""What has arrived at a connection and nobody has asked for yet, piece by piece as it came.

asyncio's own reader copies every byte into one buffer and out of it again, which takes as long as decrypting them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, SupportsIndex

_ENTRY_OVERHEAD: Final = 100
"""Bytes counted for a piece besides its own, so that a peer who sends single bytes takes no more memory than others."""


class Arrivals(asyncio.StreamReader):
    """Takes pieces from the protocol that was made with it, and has it pause while more than `limit` bytes wait."""

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=limit, loop=loop)
        self._most = limit
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._source: asyncio.ReadTransport | None = None
        self._is_paused = False
        self._arrival: asyncio.Future[None] | None = None

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        super().set_transport(transport)
        assert isinstance(transport, asyncio.ReadTransport), "whoever is sent something can be paused"
        self._source = transport

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece) + _ENTRY_OVERHEAD
        self._tell()
        if self._size > self._most and not self._is_paused and self._source is not None:
            self._is_paused = True
            self._source.pause_reading()

    def feed_eof(self) -> None:
        super().feed_eof()
        self._ended = True
        self._tell()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._ended = True
        self._tell()

    async def next_piece(self) -> bytes:
        """Returns what has arrived first; `b""` when no more will.  Raises `OSError` once the connection has broken.

        For one task at a time.
        """
        while not self._pieces and not self._ended:
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        if not self._pieces:
            if (broken := self.exception()) is not None:
                raise broken
            return b""
        piece = self._pieces.popleft()
        self._size -= len(piece) + _ENTRY_OVERHEAD
        if self._is_paused and self._size <= self._most and self._source is not None:
            self._is_paused = False
            self._source.resume_reading()
        return piece

    def _tell(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
