"""In which order two streams were written, when all there is are two pipes full of bytes.

A script that writes to both its streams wants its reader to see the lines as it wrote them.  The pipes are FIFOs, so
inotify can watch them: it tells of each write, in order, only joining neighbours of the same stream.  The lines that
are found in the pipes are dealt out over that sequence.  Without inotify (a user has few instances) the order of
readiness must do.

Imported by the processes that watch over scripts: standard library only, and little of it.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Sequence

_IN_MODIFY = 0x2
_EVENT = struct.Struct("iIII")
_UNIT = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")

_libc = ctypes.CDLL(None, use_errno=True)
_inotify_init = _libc.inotify_init1
_inotify_add_watch = _libc.inotify_add_watch


def units(data: bytes) -> list[bytes]:
    """`data` cut behind each line end; the last unit may be the beginning of a line."""
    return _UNIT.findall(data)


def interleave(writes: Sequence[int], data: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Deals the bytes of the streams out over the sequence in which they were written.

    `writes` names a stream per write (neighbours may be joined); `data` is what was read, by stream.  Gives pairs of
    stream and bytes.  Nothing is lost or reordered within a stream.
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
    """The units of one stream in `turns` shares: even ones, the rest to the last.

    With fewer units than turns the last turns get them: the first ones wrote the beginnings of lines, or were seen
    before.
    """
    if turns == 0:
        return []
    each = len(pieces) // turns
    if each == 0:
        return [b""] * (turns - len(pieces)) + pieces
    cut = [pieces[i * each : (i + 1) * each] for i in range(turns - 1)]
    return [b"".join(share) for share in [*cut, pieces[(turns - 1) * each :]]]


class WriteWatch:
    """Tells which of some FIFOs were written, in order.  Works on without inotify, then telling nothing."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._streams: dict[int, int] = {}
        self.descriptor: int = _inotify_init(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor >= 0:
            for stream, path in enumerate(paths):
                watch = _inotify_add_watch(self.descriptor, os.fsencode(path), _IN_MODIFY)
                self._streams[watch] = stream

    def writes(self) -> list[int]:
        """The streams written since the last call; neighbours of the same stream may be joined."""
        if self.descriptor < 0:
            return []
        try:
            events = os.read(self.descriptor, 65536)
        except BlockingIOError:
            return []
        # A watch that ends because its FIFO is closed is an event too.
        seen = [self._streams.get(watch, -1) for watch, mask, _, _ in _EVENT.iter_unpack(events) if mask & _IN_MODIFY]
        return [stream for stream in seen if stream >= 0]
