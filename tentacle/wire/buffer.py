"""Bytes that arrived and were not consumed yet.  Knows nothing of their meaning."""

from __future__ import annotations

import re


class ReceiveBuffer:
    """A queue of bytes with a cheap front: consumed bytes are cut off in large pieces, not one by one.

    What arrives while nothing else waits, as all pieces of a file do, is kept as it came, and no byte of it is copied
    when it is consumed as a whole.
    """

    _CUT = 64 * 1024

    def __init__(self) -> None:
        self._data: bytes | bytearray = b""
        self._start = 0
        self.at_eof = False

    def __len__(self) -> int:
        return len(self._data) - self._start

    def feed(self, data: bytes) -> None:
        if len(self):
            self._changeable().extend(data)
        else:
            self._data, self._start = data, 0

    def feed_eof(self) -> None:
        self.at_eof = True

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes from the front, without consuming them."""
        # By a view: a part of a bytearray is a copy already.
        return bytes(memoryview(self._data)[self._start : self._start + count])

    def take(self, count: int) -> bytes:
        """Up to `count` bytes from the front, consumed."""
        if isinstance(self._data, bytes) and not self._start and count >= len(self._data):
            data, self._data = self._data, b""
            return data
        data = self.peek(count)
        self._advance(self._start + len(data))
        return data

    def skip(self, pattern: re.Pattern[bytes]) -> None:
        """Drops what matches `pattern` at the front."""
        # The match itself must be gone: as long as it is there, the bytes cannot be cut.
        end = found.end() if (found := pattern.match(self._data, self._start)) else self._start
        del found
        self._advance(end)

    def find(self, needle: bytes, limit: int) -> int:
        """Where `needle` begins within the first `limit` bytes, or -1."""
        index = self._data.find(needle, self._start, self._start + limit)
        return -1 if index < 0 else index - self._start

    def push_back(self, data: bytes) -> None:
        """Puts bytes that belong to the next element back to the front."""
        changeable = self._changeable()
        changeable[self._start : self._start] = data

    def _changeable(self) -> bytearray:
        if isinstance(self._data, bytes):
            self._data, self._start = bytearray(memoryview(self._data)[self._start :]), 0
        return self._data

    def _advance(self, start: int) -> None:
        self._start = start
        if start == len(self._data):
            self._data, self._start = b"", 0
        elif start >= self._CUT:
            changeable = self._changeable()
            del changeable[: self._start]
            self._start = 0
