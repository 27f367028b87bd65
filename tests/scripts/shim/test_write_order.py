from __future__ import annotations

import os
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.shim.log_format import ERR, OUT
from tentacle.scripts.shim.pipes import OutputPipes
from tentacle.scripts.shim.write_order import WriteWatch, interleave, units

DATA = st.binary(max_size=40).map(lambda data: data.replace(b"\x00", b"\n"))


@pytest.mark.parametrize(
    ("writes", "out", "err", "expected"),
    [
        ([0, 1, 0], b"joined\nx\r", b"err\n", [(0, b"joined\n"), (1, b"err\n"), (0, b"x\r")]),
        ([0, 0, 1, 0, 1], b"a\nb\nc\n", b"d\ne\n", [(0, b"a\n"), (1, b"d\n"), (0, b"b\nc\n"), (1, b"e\n")]),
        ([0, 1, 0], b"beginning end\n", b"err\n", [(1, b"err\n"), (0, b"beginning end\n")]),
        ([0, 1, 0], b"a\nopen", b"err\n", [(0, b"a\n"), (1, b"err\n"), (0, b"open")]),
        ([], b"a\n", b"b\n", [(0, b"a\n"), (1, b"b\n")]),
        ([1], b"a\n", b"b\n", [(1, b"b\n"), (0, b"a\n")]),
        ([1, 0, 1], b"a\n", b"", [(0, b"a\n")]),
    ],
)
def test_lines_are_dealt_out_over_the_writes(
    writes: list[int], out: bytes, err: bytes, expected: list[tuple[int, bytes]]
) -> None:
    assert interleave(writes, [out, err]) == expected


@given(st.lists(st.integers(0, 1), max_size=12), DATA, DATA)
def test_nothing_is_lost_or_reordered_within_a_stream(writes: list[int], out: bytes, err: bytes) -> None:
    dealt = interleave(writes, [out, err])
    assert b"".join(piece for stream, piece in dealt if stream == 0) == out
    assert b"".join(piece for stream, piece in dealt if stream == 1) == err
    assert all(piece for _, piece in dealt)


@given(DATA)
def test_units_end_at_line_ends(data: bytes) -> None:
    found = units(data)
    assert b"".join(found) == data
    assert all(unit[-1:] in b"\r\n" for unit in found[:-1])


def test_without_inotify_nothing_is_told_and_nothing_fails() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        watch = WriteWatch()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    pipes = OutputPipes(watch)
    os.write(pipes.writers[1], b"1\n")
    os.write(pipes.writers[0], b"2\n")
    assert watch.writes() == []
    assert not watch.more_within(0)
    assert pipes.collect() == ([(OUT, b"2\n"), (ERR, b"1\n")], [])
    pipes.close()
    watch.close()


def test_a_descriptor_above_1023_is_waited_for_too() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], min(4096, limits[1])), limits[1]))
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        watch = WriteWatch()
        pipes = OutputPipes(watch)
        assert not watch.more_within(0)
        os.write(pipes.writers[0], b"1\n")
        assert watch.more_within(0)
        pipes.close()
        watch.close()
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_pipes_tell_the_order_of_writing_and_the_end_script_for_script(watch: WriteWatch) -> None:
    for _ in range(3):
        pipes = OutputPipes(watch)
        out, err = pipes.writers
        for writer, data in [(err, b"1\n"), (out, b"2\n"), (err, b"3\n"), (err, b"4\n"), (out, b"5\n")]:
            os.write(writer, data)
        # Neighbours of one stream are joined, and two lines over two turns are one each; the third goes to the last.
        assert pipes.collect() == ([(ERR, b"1\n"), (OUT, b"2\n"), (ERR, b"3\n4\n"), (OUT, b"5\n")], [])
        assert pipes.collect() == ([], [])
        os.write(out, b"last")
        os.close(pipes.writers.pop())
        pieces, ended = pipes.collect()
        assert (pieces, ended) == ([(OUT, b"last"), (ERR, b"")], [pipes.readers[1]])
        assert pipes.open
        pipes.close_writers()
        pieces, ended = pipes.collect()
        assert (pieces, ended) == ([(OUT, b"")], [pipes.readers[0]])
        assert (pipes.open, pipes.collect()) == (False, ([], []))
        pipes.close()


def test_an_end_that_somebody_keeps_tells_nothing_of_later_pipes_nor_they_of_it(watch: WriteWatch) -> None:
    first = OutputPipes(watch)
    kept_writer, kept_reader = os.dup(first.writers[0]), os.dup(first.readers[0])
    first.close()
    second = OutputPipes(watch)
    os.write(second.writers[0], b"secret\n")
    os.write(kept_writer, b"foreign\n")
    assert os.read(kept_reader, 100) == b"foreign\n"
    assert watch.writes() == [0]
    assert second.collect() == ([(OUT, b"secret\n")], [])
    second.close()
    os.close(kept_writer)
    os.close(kept_reader)


def test_a_full_pipe_is_read_in_bounded_portions(pipes: OutputPipes) -> None:
    os.set_blocking(pipes.writers[0], False)
    written = os.write(pipes.writers[0], b"x" * 10_000_000)
    assert pipes.collect() == ([(OUT, b"x" * written)], [])
    pipes.close_writers()
    pieces, ended = pipes.collect()
    assert (pieces, len(ended)) == ([(OUT, b""), (ERR, b"")], 2)
