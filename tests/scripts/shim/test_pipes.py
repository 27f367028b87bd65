"""The lines of both streams come in the order of writing, whenever the shim happens to look."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tentacle.scripts.shim.log_format import ERR, OUT
from tentacle.scripts.shim.pipes import OutputPipes
from tentacle.scripts.shim.write_order import WriteWatch


class SlowWatch(WriteWatch):
    """Is asked for the writes only after the script has written once more."""

    writer = -1
    """Where the script writes next; -1 when it does not."""

    def writes(self) -> list[int]:
        if self.writer >= 0:
            os.write(self.writer, b"two\n")
            self.writer = -1
        return super().writes()


@pytest.fixture
def watch() -> Iterator[SlowWatch]:
    watch = SlowWatch()
    yield watch
    watch.close()


def test_a_line_that_is_written_while_the_shim_looks_comes_before_the_next(
    watch: SlowWatch, pipes: OutputPipes
) -> None:
    """The kernel joins the two writes, so the second one is reported when only the first one has been read."""
    out, err = pipes.writers
    os.write(out, b"one\n")
    watch.writer = out
    pieces, _ = pipes.collect()
    os.write(err, b"three\n")
    more, _ = pipes.collect()
    joined: list[tuple[bytes, bytes]] = []
    for kind, body in pieces + more:
        if joined and joined[-1][0] == kind:
            joined[-1] = (kind, joined[-1][1] + body)
        else:
            joined.append((kind, body))
    assert joined == [(OUT, b"one\ntwo\n"), (ERR, b"three\n")]


def test_the_end_of_both_streams_is_told_once(pipes: OutputPipes) -> None:
    os.write(pipes.writers[0], b"last")
    pipes.close_writers()
    pieces, ended = pipes.collect()
    assert (pieces, len(ended), pipes.open) == ([(OUT, b"last"), (OUT, b""), (ERR, b"")], 2, False)
    assert pipes.collect() == ([], [])
