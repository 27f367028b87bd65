"""Reads the records of a log one after another through a buffer of bounded size."""

from __future__ import annotations

import os

from tentacle.scripts.shim.log_format import VERSION, CorruptRecordError, parse_header, require_whole

BUFFER = 256 * 1024


class RecordReader:
    """Reads an open log, which may grow meanwhile, up to its last whole record."""

    def __init__(self, log: int, offset: int, size: int = BUFFER) -> None:
        """`offset` is 0 or the `offset` of another reader of the same log."""
        self._log = log
        self._base = offset
        self._size = size
        self._buffer = b""
        self._position = 0

    @property
    def offset(self) -> int:
        """The position in the file behind the last record that was read."""
        return self._base + self._position

    def next(self) -> tuple[bytes, int, bytes] | None:
        """Returns kind, time and body of the next record, once all of it can be read; else `None`.

        Raises `CorruptRecordError`, for a moment perhaps also for a record that is being written.
        """
        if self.offset == 0:
            self._fill(len(VERSION))
            if not self._buffer.startswith(VERSION):
                if VERSION.startswith(self._buffer):
                    return None
                raise CorruptRecordError
            self._position = len(VERSION)
        header = parse_header(self._buffer, self._position)
        if header is None:
            self._fill(0)
            header = parse_header(self._buffer, self._position)
        if header is None:
            return None
        if len(self._buffer) < header.end:
            needed = header.end - self._position
            self._fill(needed)
            if len(self._buffer) < needed:
                return None
            header = parse_header(self._buffer, 0)
            assert header is not None
        require_whole(self._buffer, self._position, header)
        self._position = header.end
        return header.kind, header.occurred, self._buffer[header.body : header.end]

    def has_more_bytes(self) -> bool:
        """Returns whether there are bytes behind the last whole record."""
        return os.fstat(self._log).st_size > self.offset

    def _fill(self, needed: int) -> None:
        self._base, self._position = self.offset, 0
        self._buffer = os.pread(self._log, max(self._size, needed), self._base)
