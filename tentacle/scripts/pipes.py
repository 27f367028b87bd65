"""The two pipes that carry a script's output, from the reading side.

They are FIFOs that have no name any more once they are open: only the script's own processes can write to them, the
order of writing can be watched, and `/dev/stderr` can be opened again by the script without losing what was there.

Imported by the processes that watch over scripts: standard library only, and little of it.
"""

from __future__ import annotations

import os
import select

from tentacle.scripts.frames import ERR, OUT
from tentacle.scripts.journal import Piece
from tentacle.scripts.streams import WriteWatch, interleave

_NAMES = ("out", "err")
_KINDS = (OUT, ERR)
_ONE_READ = 65536
_MOST_AT_ONCE = 512 * 1024
_ROUNDS = 16
_SETTLE = 0.0003
"""Seconds to wait for the news of a write whose bytes are here already."""


class OutputPipes:
    """Creates the pipes of one run; `writers` go to the script and are then closed here with `close_writers`."""

    def __init__(self, state: int) -> None:
        readers, writers = zip(*(_fifo(state, name) for name in _NAMES), strict=True)
        self.readers: list[int | None] = list(readers)
        self.writers: tuple[int, ...] = writers
        self._watch = WriteWatch([f"/proc/self/fd/{reader}" for reader in readers])

    @property
    def open(self) -> bool:
        """True while anybody holds the writing end of one of them."""
        return any(reader is not None for reader in self.readers)

    def close_writers(self) -> None:
        for writer in self.writers:
            os.close(writer)
        self.writers = ()

    def close(self) -> None:
        """Closes what is still open."""
        self.close_writers()
        for reader in self.readers:
            if reader is not None:
                os.close(reader)
        self.readers = [None for _ in self.readers]
        self._watch.close()

    def collect(self) -> list[Piece]:
        """What can be read now, in the order of writing; an empty piece where a stream has ended."""
        data = [bytearray() for _ in _KINDS]
        before = list(self.readers)
        writes = self._fill(data)
        pieces = [(_KINDS[stream], piece) for stream, piece in interleave(writes, [bytes(d) for d in data])]
        ended = [i for i, reader in enumerate(self.readers) if reader is None and before[i] is not None]
        return pieces + [(_KINDS[stream], b"") for stream in ended]

    def _fill(self, data: list[bytearray]) -> list[int]:
        """Reads until both pipes are empty and every write of what was read has been told of; gives the writes."""
        writes: list[int] = []
        for _ in range(_ROUNDS):
            read = sum([self._read(stream, data[stream]) for stream in range(len(data))])
            told = self._watch.writes()
            writes += told
            if not all(data) and all(data[stream] for stream in told):
                # Only one stream has been written: there is no order to find out.
                return []
            settled = not read and not told
            if max(map(len, data)) > _MOST_AT_ONCE or (settled and not self._more_news()):
                break
        return writes

    def _more_news(self) -> bool:
        watch = self._watch.descriptor
        return watch >= 0 and bool(select.select([watch], [], [], _SETTLE)[0])

    def _read(self, stream: int, into: bytearray) -> int:
        """Reads what is there; notices the end.  Gives the number of bytes."""
        reader, start = self.readers[stream], len(into)
        while reader is not None and len(into) - start < _MOST_AT_ONCE:
            try:
                data = os.read(reader, _ONE_READ)
            except BlockingIOError:
                break
            into += data
            if not data:
                os.close(reader)
                reader = self.readers[stream] = None
        return len(into) - start


def _fifo(state: int, name: str) -> tuple[int, int]:
    """A fresh FIFO's reading and writing end.  Its name is gone when this returns."""
    os.mkfifo(name, 0o600, dir_fd=state)
    reader = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=state)
    writer = os.open(name, os.O_WRONLY, dir_fd=state)
    os.unlink(name, dir_fd=state)
    return reader, writer
