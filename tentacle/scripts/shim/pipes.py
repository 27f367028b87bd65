"""The two pipes that carry a script's output, from the reading side.

Every run has pipes of its own, because a script can keep an end of them or pass it on, and must not read the output of
a later run.  They have no name, so they need no file system.  A script can open its `/dev/stderr` again without losing
what was there.
"""

from __future__ import annotations

import os

from tentacle.scripts.shim.log_format import ERR, OUT
from tentacle.scripts.shim.log_writer import Piece
from tentacle.scripts.shim.write_order import WriteWatch, interleave

_KINDS = (OUT, ERR)
_ONE_READ = 65536
_MOST_AT_ONCE = 512 * 1024
_ROUNDS = 16
_SETTLE = 0.0003
"""Seconds to wait for the event of a write whose bytes are here already."""


class OutputPipes:
    """The pipes of one run.  `watch` may serve one run after another."""

    def __init__(self, watch: WriteWatch) -> None:
        pairs = [os.pipe2(os.O_CLOEXEC) for _ in _KINDS]
        self.readers = [reader for reader, _ in pairs]
        self.writers = [writer for _, writer in pairs]
        self._ended = [False for _ in _KINDS]
        self._watch = watch
        for reader in self.readers:
            os.set_blocking(reader, False)
        watch.start(self.readers)

    @property
    def open(self) -> bool:
        """True while any process holds the writing end of one of them."""
        return not all(self._ended)

    def close_writers(self) -> None:
        """Closes our own writing ends; the script has its own."""
        while self.writers:
            os.close(self.writers.pop())

    def close(self) -> None:
        """Closes everything; a process that still writes gets SIGPIPE."""
        self.close_writers()
        self._watch.stop()
        while self.readers:
            os.close(self.readers.pop())

    def collect(self) -> tuple[list[Piece], list[int]]:
        """Returns what can be read now, in the order of writing, and the readers of the streams that have ended.

        An empty piece stands where a stream has ended.
        """
        data = [bytearray() for _ in _KINDS]
        before = list(self._ended)
        writes = self._fill(data)
        pieces = [(_KINDS[stream], piece) for stream, piece in interleave(writes, [bytes(d) for d in data])]
        ended = [stream for stream, now in enumerate(self._ended) if now and not before[stream]]
        return pieces + [(_KINDS[stream], b"") for stream in ended], [self.readers[stream] for stream in ended]

    def _fill(self, data: list[bytearray]) -> list[int]:
        """Reads until both pipes are empty and the events of all writes have arrived; returns the writes."""
        writes: list[int] = []
        for _ in range(_ROUNDS):
            read = sum([self._read(stream, data[stream]) for stream in range(len(data))])
            new = self._watch.writes()
            writes += new
            settled = not read and not new
            if settled and not all(data):
                # Only one stream was written, so there is no order that a late event could tell.
                return []
            if max(map(len, data)) > _MOST_AT_ONCE or (settled and not self._watch.more_within(_SETTLE)):
                break
        # What the last events tell of may have been written after it was read: left in the pipe, it would count as
        # written after the next line.
        for stream in set(new):
            self._read(stream, data[stream])
        return writes

    def _read(self, stream: int, into: bytearray) -> int:
        """Reads what is available and notes the end of the stream; returns the number of bytes."""
        start = len(into)
        while not self._ended[stream] and len(into) - start < _MOST_AT_ONCE:
            try:
                data = os.read(self.readers[stream], _ONE_READ)
            except BlockingIOError:
                break
            into += data
            self._ended[stream] = not data
        return len(into) - start
