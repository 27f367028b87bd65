"""Finds the order in which a script has written to its two pipes.

A reader expects the lines of both streams in the order of writing.  inotify reports each write to a pipe, in order; it
only joins neighbouring writes to the same stream.  The lines found in the pipes are distributed over that sequence.
Without inotify (a user has few instances of it) the order in which the pipes become readable must do.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import struct
import time
from collections.abc import Sequence

_IN_MODIFY = 0x2
_EVENT = struct.Struct("iIII")
_UNIT = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")

_libc = ctypes.CDLL(None, use_errno=True)
_inotify_init = _libc.inotify_init1
_inotify_add_watch = _libc.inotify_add_watch
_inotify_remove_watch = _libc.inotify_rm_watch


def units(data: bytes) -> list[bytes]:
    """Returns `data` cut behind each line end; the last unit may be the beginning of a line."""
    return _UNIT.findall(data)


def interleave(writes: Sequence[int], data: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Distributes the bytes of the streams over the sequence in which they were written.

    `writes` names a stream for each write (neighbours may be joined); `data` is what was read, by stream.  Returns
    pairs of stream and bytes.  Nothing is lost or reordered within a stream.
    """
    written = [(stream, read) for stream, read in enumerate(data) if read]
    if len(written) < 2:
        return written
    turns = [stream for i, stream in enumerate(writes) if i == 0 or writes[i - 1] != stream]
    turns += [stream for stream, _ in written if stream not in turns]
    shares = [_shares(units(read), turns.count(stream)) for stream, read in enumerate(data)]
    dealt = [(stream, shares[stream].pop(0)) for stream in turns]
    return [(stream, piece) for stream, piece in dealt if piece]


def _shares(pieces: list[bytes], turns: int) -> list[bytes]:
    """Returns the units of one stream in `turns` equal shares; the last one gets the remainder.

    With fewer units than turns the last turns get one each: the first turns wrote the beginnings of lines, or what was
    read before.
    """
    if turns == 0:
        return []
    each = len(pieces) // turns
    if each == 0:
        return [b""] * (turns - len(pieces)) + pieces
    cut = [pieces[i * each : (i + 1) * each] for i in range(turns - 1)]
    return [b"".join(share) for share in [*cut, pieces[(turns - 1) * each :]]]


class WriteWatch:
    """Reports which of some pipes were written, in order.  Without inotify it reports nothing.

    It serves one run after another, since closing an inotify instance takes the kernel some milliseconds.  Another
    process may still hold the pipes of a former run; writes to them are ignored.
    """

    def __init__(self) -> None:
        self._streams: dict[int, int] = {}
        """Streams by watch number, which the kernel never uses twice."""
        self._descriptor: int = _inotify_init(os.O_NONBLOCK | os.O_CLOEXEC)

    def start(self, readers: Sequence[int]) -> None:
        """Watches these pipes, given by their reading ends; they are the streams 0, 1..."""
        self.stop()
        if self._descriptor >= 0:
            for stream, reader in enumerate(readers):
                watch = _inotify_add_watch(self._descriptor, b"/proc/self/fd/%d" % reader, _IN_MODIFY)
                self._streams[watch] = stream
            self._streams.pop(-1, None)

    def stop(self) -> None:
        """Stops watching the pipes."""
        for watch in self._streams:
            _inotify_remove_watch(self._descriptor, watch)
        self._streams.clear()
        self.writes()

    def writes(self) -> list[int]:
        """Returns the streams written since the last call; neighbours of the same stream may be joined."""
        if self._descriptor < 0:
            return []
        try:
            events = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return []
        # A watch that ends because its pipe is closed is an event too.
        seen = [self._streams.get(watch, -1) for watch, mask, _, _ in _EVENT.iter_unpack(events) if mask & _IN_MODIFY]
        return [stream for stream in seen if stream >= 0]

    def more_within(self, seconds: float) -> bool:
        """Waits for the next write; returns false when there is none in that time."""
        if self._descriptor < 0:
            return False
        # select(2) takes no descriptor above 1023, and poll(2) counts in milliseconds, which is long here.
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        if waiting.poll(0):
            return True
        time.sleep(seconds)
        return bool(waiting.poll(0))

    def close(self) -> None:
        """Closes the inotify instance."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
