"""The lines of both streams come in the order of writing, whenever the shim happens to look."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tentacle.scripts.shim.log_format import ERR, OUT
from tentacle.scripts.shim.pipes import OutputPipes
from tentacle.scripts.shim.write_order import WriteWatch


class SlowWatch(WriteWatch):
    """The script writes more while the shim looks: just before it asks for the writes, and just after."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[tuple[int, bytes]] = []
        self.after: list[tuple[int, bytes]] = []
        """Descriptors, and what the script writes there."""

    def writes(self) -> list[int]:
        self._write(self.before)
        found = super().writes()
        self._write(self.after)
        return found

    def _write(self, lines: list[tuple[int, bytes]]) -> None:
        while lines:
            os.write(*lines.pop(0))


@pytest.fixture
def watch() -> Iterator[SlowWatch]:
    watch = SlowWatch()
    yield watch
    watch.close()


def collected(pipes: OutputPipes) -> list[tuple[bytes, bytes]]:
    """All that is there, neighbours of one stream joined."""
    joined: list[tuple[bytes, bytes]] = []
    while pieces := pipes.collect()[0]:
        for kind, body in pieces:
            if joined and joined[-1][0] == kind:
                joined[-1] = (kind, joined[-1][1] + body)
            else:
                joined.append((kind, body))
    return joined


def test_a_line_that_is_written_while_the_shim_looks_comes_before_the_next(
    watch: SlowWatch, pipes: OutputPipes
) -> None:
    """The kernel joins the two writes, so the second one is reported when only the first one has been read."""
    out, err = pipes.writers
    os.write(out, b"one\n")
    watch.before = [(out, b"two\n")]
    found = collected(pipes)
    os.write(err, b"three\n")
    assert found + collected(pipes) == [(OUT, b"one\ntwo\n"), (ERR, b"three\n")]


@pytest.mark.parametrize("first", [0, 1])
def test_a_line_of_the_other_stream_that_comes_while_the_shim_looks_keeps_its_place(
    watch: SlowWatch, pipes: OutputPipes, first: int
) -> None:
    writers, kinds = pipes.writers, (OUT, ERR)
    os.write(writers[first], b"one\n")
    watch.after = [(writers[1 - first], b"two\n"), (writers[first], b"three\n")]
    assert collected(pipes) == [(kinds[first], b"one\n"), (kinds[1 - first], b"two\n"), (kinds[first], b"three\n")]


def test_the_end_of_both_streams_is_told_once(pipes: OutputPipes) -> None:
    os.write(pipes.writers[0], b"last")
    pipes.close_writers()
    pieces, ended = pipes.collect()
    assert (pieces, len(ended), pipes.open) == ([(OUT, b"last"), (OUT, b""), (ERR, b"")], 2, False)
    assert pipes.collect() == ([], [])
