"""Bytes that arrived and were not consumed yet.  Knows nothing of their meaning."""

from __future__ import annotations

import re


class ReceiveBuffer:
    """A queue of bytes with a cheap front: consumed bytes are cut off in large pieces, not one by one."""

    _CUT = 64 * 1024

    def __init__(self) -> None:
        self._data = bytearray()
        self._start = 0
        self.at_eof = False

    def __len__(self) -> int:
        return len(self._data) - self._start

    def feed(self, data: bytes) -> None:
        self._data += data

    def feed_eof(self) -> None:
        self.at_eof = True

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes from the front, without consuming them."""
        return bytes(self._data[self._start : self._start + count])

    def take(self, count: int) -> bytes:
        """Up to `count` bytes from the front, consumed."""
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
        self._data[self._start : self._start] = data

    def _advance(self, start: int) -> None:
        self._start = start
        if start >= self._CUT or start == len(self._data):
            del self._data[:start]
            self._start = 0
