from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.output.lines import NOTHING_OPEN, cut_mark, flush, split

OUTPUT = st.lists(
    st.sampled_from(
        [b"\n", b"\r", b"\r\n", b"a", b"long text here", b"\0", b"\xff", "ž".encode(), "😀".encode(), b"\xc5"]
    )
).map(b"".join)


def all_lines(chunks: list[bytes], limit: int = 1000) -> list[str]:
    state, found = NOTHING_OPEN, []
    for chunk in chunks:
        state, lines = split(state, chunk, limit)
        found += [text + cut_mark(limit) * (i in lines.cut) for i, text in enumerate(lines.texts)]
    return found + flush(state).texts


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(borders)]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb\r\nc\rd"], ["a", "b", "c", "d"]),
        ([b"x\r", b"\ny"], ["x", "y"]),
        ([b"x\r", b"\n"], ["x"]),
        ([b"x\r", b"y"], ["x", "y"]),
        ([b"\r\r\n\n"], ["", "", ""]),
        ([b"\xc5", b"\xbe\n"], ["ž"]),
        ([b"\xff\xfe bad\n"], ["�� bad"]),
        ([b"\xc5\nx\n"], ["�", "x"]),
        ([b"\xef\xbb\xbfbom\n"], ["\ufeffbom"]),
        ([b"a\0b\n"], ["a\0b"]),
        ([b""], []),
    ],
)
def test_lines_end_as_in_the_original(chunks: list[bytes], expected: list[str]) -> None:
    assert all_lines(chunks) == expected


def test_a_return_ends_the_line_at_once() -> None:
    assert split(NOTHING_OPEN, b"50%\r", 100)[1].texts == ["50%"]


@given(OUTPUT, st.lists(st.integers(0, 10_000), max_size=8))
def test_where_the_reads_cut_makes_no_difference(data: bytes, places: list[int]) -> None:
    expected = [line.decode("utf-8", "replace") for line in re.split(rb"\r\n|\n|\r", data)]
    if expected[-1] == "":
        expected.pop()
    assert all_lines(cut(data, places)) == expected


@given(OUTPUT, st.lists(st.integers(0, 10_000), max_size=8), st.integers(8, 20))
def test_long_lines_are_cut_in_the_same_places_however_they_come(data: bytes, places: list[int], limit: int) -> None:
    whole = all_lines([data], limit)
    assert all_lines(cut(data, places), limit) == whole
    joined = "\n".join(whole).replace(cut_mark(limit) + "\n", "")
    assert joined.split("\n") == (all_lines([data]) or [""])
    assert all(len(line.removesuffix(cut_mark(limit)).encode("utf-8", "surrogatepass")) <= 3 * limit for line in whole)


def test_what_is_kept_of_an_endless_line_is_bounded() -> None:
    state, lines = NOTHING_OPEN, 0
    for _ in range(200):
        state, found = split(state, b"x" * 10_000, 65536)
        lines += len(found.cut)
        assert len(found.texts) == len(found.cut)
        assert len(state.rest) == state.length <= 65536
    assert lines == 2_000_000 // 65536


def test_a_line_that_comes_byte_by_byte_is_kept_in_few_pieces() -> None:
    """Or every byte would cost a copy of the whole line."""
    state = NOTHING_OPEN
    for number in range(1, 50_001):
        state, lines = split(state, b"x", 65536)
        assert (state.length, lines.texts) == (number, [])
        assert len(state.pieces) <= number.bit_length()
    assert flush(state).texts == ["x" * 50_000]
