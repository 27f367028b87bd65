"""Appends records to a run's log, and counts what a full or failing disk has lost.

The script must not notice that the disk is full: its output is read and, where it cannot be written, counted.  As soon
as there is room for it, an entry says how much was lost.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence

from tentacle.scripts.shim.clock import now_ms
from tentacle.scripts.shim.file_flags import free
from tentacle.scripts.shim.log_format import ERR, ERR_ENTRY, OUT, VERSION, record

Piece = tuple[bytes, bytes]
"""A kind of record and its body."""


def open_log(path: str) -> int:
    """Returns a descriptor for reading and appending; creates a missing log.

    Raises `OSError`, also for what is no file: a pipe would hold up its writer.
    """
    log = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(log)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        if found.st_size == 0:
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
        """The log ends with a part of a record that could not be removed, so nothing behind it could be read."""

    @property
    def lost(self) -> int:
        """Bytes of output that are missing from the log without an entry that says so."""
        return self._lost

    def write(self, pieces: Sequence[Piece]) -> bool:
        """Appends the pieces in this order, with one system call; returns whether all of them were written.

        Raises nothing.  The whole records that were written stay, because a reader may have seen them.
        """
        now = self._clock()
        mark: list[bytes] = []
        if self._lost:
            text = lost_text(self._lost, os.strerror(self._reason))
            mark = [record(OUT, now, b""), record(ERR, now, b""), record(ERR_ENTRY, now, text.encode())]
        records = mark + [record(kind, now, body) for kind, body in pieces]
        written = self._append(records)
        if mark and written >= len(mark):
            self._lost = 0
        left = pieces[max(written - len(mark), 0) :]
        self._lost += sum(len(body) for kind, body in left if kind in (OUT, ERR))
        return written == len(records)

    def entry(self, kind: bytes, text: str) -> bool:
        """Appends one whole entry; returns what `write` does."""
        return self.write([(kind, text.encode("utf-8", "replace"))])

    def _append(self, records: list[bytes]) -> int:
        """Returns how many of the records, from the first on, are in the log."""
        block = memoryview(b"".join(records))
        done = 0
        try:
            while done < len(block) and not self._torn:
                try:
                    done += os.write(self._descriptor, block[done:])
                except PermissionError:
                    if not free(self._descriptor):
                        raise
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
    """Returns the entry that stands in place of `lost` bytes of output."""
    why = f": {reason}" if reason else ""
    return (
        f"Tentacle could not write {lost} bytes of this script's output to its log{why}. "
        "They are lost; the script itself was not disturbed."
    )
