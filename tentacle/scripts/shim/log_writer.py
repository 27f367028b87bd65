"""Appends records to a run's log, and counts what a full or failing disk swallowed.

The script must not notice that the disk is full: its output is read and, where it cannot be written, counted.  Where
output was lost an entry says so, as soon as there is room for the entry.

Standard library only: part of the shim.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from tentacle.scripts.shim.clock import now_ms
from tentacle.scripts.shim.log_format import ERR, ERR_ENTRY, OUT, VERSION, record

Piece = tuple[bytes, bytes]
"""A kind of record and its body."""


def open_log(path: str) -> int:
    """Returns a descriptor for reading and appending; a log that is not there begins anew.  Raises `OSError`."""
    log = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(log).st_size == 0:
            os.write(log, VERSION)
    except OSError:
        os.close(log)
        raise
    return log


class LogWriter:
    """The only writer of one log.  Does not own the descriptor, which must be open for appending."""

    def __init__(self, descriptor: int, clock: Callable[[], int] = now_ms) -> None:
        self._descriptor = descriptor
        self._clock = clock
        self._end = os.fstat(descriptor).st_size
        self._lost = 0
        self._reason = 0
        self._torn = False
        """The log ends in a part of a record that cannot be taken back: nothing behind it could be read."""

    @property
    def lost(self) -> int:
        """Bytes of output that are missing from the log without an entry that says so."""
        return self._lost

    def write(self, pieces: Sequence[Piece]) -> bool:
        """Appends the pieces in this order, with one system call.

        Returns false, and raises nothing, when a failing disk has not taken all of them.  What it has taken stays, down
        to the last whole record: a reader may have seen it.
        """
        now = self._clock()
        mark = self._mark(now) if self._lost else []
        records = mark + [record(kind, now, body) for kind, body in pieces]
        written = self._append(records)
        if mark and written >= len(mark):
            self._lost = 0
        left = pieces[max(written - len(mark), 0) :]
        self._lost += sum(len(body) for kind, body in left if kind in (OUT, ERR))
        return written == len(records)

    def entry(self, kind: bytes, text: str) -> bool:
        """Appends one whole entry, as `write`."""
        return self.write([(kind, text.encode("utf-8", "replace"))])

    def _mark(self, now: int) -> list[bytes]:
        text = lost_text(self._lost, os.strerror(self._reason))
        return [record(OUT, now, b""), record(ERR, now, b""), record(ERR_ENTRY, now, text.encode())]

    def _append(self, records: list[bytes]) -> int:
        """Returns how many of the records are in the log, all of them or the first ones."""
        block = memoryview(b"".join(records))
        done = 0
        try:
            while done < len(block) and not self._torn:
                done += os.write(self._descriptor, block[done:])
        except OSError as error:
            self._reason = error.errno or 0
        if done == len(block):
            self._end += done
            return len(records)
        whole = kept = 0
        while kept + len(records[whole]) <= done:
            kept += len(records[whole])
            whole += 1
        self._end += kept
        if done > kept:
            try:
                os.ftruncate(self._descriptor, self._end)
            except OSError:
                self._torn = True
        return whole


def lost_text(lost: int, reason: str = "") -> str:
    """Returns what the log says in the place of `lost` bytes of output."""
    why = f": {reason}" if reason else ""
    return (
        f"Tentacle could not write {lost} bytes of this script's output to its log{why}. "
        "They are lost; the script itself was not disturbed."
    )
