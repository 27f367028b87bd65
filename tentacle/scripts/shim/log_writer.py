"""Appends records to a durable log, and keeps count of what a full or failing disk swallowed.

The script must not notice that the disk is full: its output is read and, where it cannot be written, counted.
Where it was lost a mark says so, as soon as there is room for the mark.

Imported by the processes that watch over scripts: standard library only, and little of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from tentacle.scripts.shim.log_format import ERR, ERR_ENTRY, OUT, frame

Piece = tuple[bytes, bytes]
"""A kind of record and its body."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Journal:
    """The only writer of one log.  Does not own the descriptor, which must be open for appending."""

    def __init__(self, descriptor: int, clock: Callable[[], int] = now_ms) -> None:
        self._descriptor = descriptor
        self._clock = clock
        self._lost = 0
        self._reason = 0

    @property
    def lost(self) -> int:
        """Bytes of output that are missing in the log and not yet told of there."""
        return self._lost

    def write(self, pieces: Sequence[Piece]) -> bool:
        """Appends the pieces with one system call, in this order; false, and no exception, for a failing disk."""
        now = self._clock()
        block = b"".join([frame(kind, now, body) for kind, body in pieces])
        if self._lost:
            block = self._mark(now) + block
        if self._append(block):
            self._lost = 0
            return True
        self._lost += sum(len(body) for kind, body in pieces if kind in (OUT, ERR))
        return False

    def entry(self, kind: bytes, text: str) -> bool:
        """Appends one whole entry, as `write`."""
        return self.write([(kind, text.encode("utf-8", "replace"))])

    def _mark(self, now: int) -> bytes:
        text = (
            f"Tentacle could not write {self._lost} bytes of this script's output to its log: "
            f"{os.strerror(self._reason)}. They are lost; the script itself was not disturbed."
        )
        return frame(OUT, now, b"") + frame(ERR, now, b"") + frame(ERR_ENTRY, now, text.encode())

    def _append(self, block: bytes) -> bool:
        """True when all of `block` is in the log; otherwise none of it is."""
        rest, done = memoryview(block), 0
        try:
            while done < len(rest):
                done += os.write(self._descriptor, rest[done:])
        except OSError as error:
            self._reason = error.errno or 0
            self._take_back(done)
            return False
        return True

    def _take_back(self, written: int) -> None:
        # Half a record would make everything behind it unreadable.
        if written:
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            os.ftruncate(self._descriptor, end - written)
