"""Reads the records of a log one after another through a buffer of bounded size."""

from __future__ import annotations

import os

from tentacle.scripts.shim.log_format import CorruptFrameError, parse_header

WINDOW = 256 * 1024


class Window:
    """Stands behind the last whole record of an open log, which may grow meanwhile."""

    def __init__(self, log: int, offset: int, size: int = WINDOW) -> None:
        self._log = log
        self._base = offset
        self._size = size
        self._buffer = b""
        self._position = 0
        self._body = 0

    @property
    def offset(self) -> int:
        return self._base + self._position

    def next_header(self) -> tuple[bytes, int, int] | None:
        """Kind, time and length of the next record when all of it can be read; else `None`.

        Raises `CorruptFrameError`.
        """
        header = parse_header(self._buffer, self._position)
        if header is None:
            self._fill(0)
            header = parse_header(self._buffer, self._position)
            if header is None:
                return None
        kind, occurred, length, body = header
        needed = body - self._position + length + 1
        if len(self._buffer) - self._position < needed:
            self._fill(needed)
            if len(self._buffer) < needed:
                return None
            body = needed - length - 1
        if self._buffer[body + length] != 0x0A:
            raise CorruptFrameError
        self._body = body
        return kind, occurred, length

    def body(self, length: int) -> bytes:
        """The body of the record that `next_header` announced; moves behind it."""
        self._position = self._body + length + 1
        return self._buffer[self._body : self._body + length]

    def leftover(self) -> bool:
        """True when there are bytes behind the last whole record."""
        return os.fstat(self._log).st_size != self.offset

    def _fill(self, needed: int) -> None:
        self._base, self._position = self.offset, 0
        self._buffer = os.pread(self._log, max(self._size, needed), self._base)
