"""The two pipes that carry a script's output, from the reading side.

They are FIFOs that have no name any more once they are open: only the script's own processes can write to them, the
order of writing can be watched, and `/dev/stderr` can be opened again by the script without losing what was there.

Imported by the processes that watch over scripts: standard library only, and little of it.
"""

from __future__ import annotations

import os
import select

from tentacle.scripts.shim.log_format import ERR, OUT
from tentacle.scripts.shim.log_writer import Piece
from tentacle.scripts.shim.write_order import WriteWatch, interleave

_NAMES = ("out", "err")
_KINDS = (OUT, ERR)
_ONE_READ = 65536
_MOST_AT_ONCE = 512 * 1024
_ROUNDS = 16
_SETTLE = 0.0003
"""Seconds to wait for the news of a write whose bytes are here already."""


class OutputPipes:
    """The two pipes of a process that watches over scripts, for one of them after another.

    They are kept from script to script: to give up watching them takes the kernel some milliseconds.
    """

    def __init__(self, directory: int) -> None:
        """Made in `directory`, where nothing is left of them."""
        self._readers = [_fifo(directory, name) for name in _NAMES]
        self._ended = [True for _ in _NAMES]
        self._watch = WriteWatch([_name_of(reader) for reader in self._readers])
        self.writers: tuple[int, ...] = ()

    def begin(self) -> list[int]:
        """For a new script, whose ends the `writers` are from now on; gives ours."""
        self._watch.writes()
        self.writers = tuple(os.open(_name_of(reader), os.O_WRONLY) for reader in self._readers)
        self._ended = [False for _ in self._readers]
        return list(self._readers)

    @property
    def open(self) -> bool:
        """True while anybody holds the writing end of one of them."""
        return not all(self._ended)

    def close_writers(self) -> None:
        for writer in self.writers:
            os.close(writer)
        self.writers = ()

    def collect(self) -> tuple[list[Piece], list[int]]:
        """What can be read now, in the order of writing, with an empty piece where a stream has ended; and our ends of
        those."""
        data = [bytearray() for _ in _KINDS]
        before = list(self._ended)
        writes = self._fill(data)
        pieces = [(_KINDS[stream], piece) for stream, piece in interleave(writes, [bytes(d) for d in data])]
        ended = [i for i, now in enumerate(self._ended) if now and not before[i]]
        return pieces + [(_KINDS[stream], b"") for stream in ended], [self._readers[stream] for stream in ended]

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
        start = len(into)
        while not self._ended[stream] and len(into) - start < _MOST_AT_ONCE:
            try:
                data = os.read(self._readers[stream], _ONE_READ)
            except BlockingIOError:
                break
            into += data
            self._ended[stream] = not data
        return len(into) - start


def _name_of(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _fifo(directory: int, name: str) -> int:
    """A fresh FIFO's reading end.  Its name is gone when this returns."""
    os.mkfifo(name, 0o600, dir_fd=directory)
    reader = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=directory)
    os.unlink(name, dir_fd=directory)
    return reader
