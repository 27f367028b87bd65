"""The buffer behaves as a plain text of bytes would, whatever is put in and taken out."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.wire.buffer import ReceiveBuffer

LARGE = 70_000
"""More than the buffer keeps in front of what has not been taken yet."""

SIZES = st.integers(0, 12) | st.sampled_from([LARGE - 1, LARGE, 2 * LARGE])
STEPS = st.one_of(
    st.tuples(st.just("feed"), st.binary(max_size=12) | st.just(b"large\r\n" * (LARGE // 5))),
    st.tuples(st.just("push_back"), st.binary(max_size=12)),
    st.tuples(st.just("take"), SIZES),
    st.tuples(st.just("peek"), SIZES),
    st.tuples(st.just("skip"), st.sampled_from([rb"(?:\r\n)*", rb"[a-z]*", rb"large", rb"\0+"])),
    st.tuples(st.just("find"), st.tuples(st.sampled_from([b"\r\n", b"\n", b"a", b"\0"]), SIZES)),
)


@given(st.lists(STEPS, max_size=20))
@example([("feed", b"x" * LARGE), ("take", LARGE - 1), ("push_back", b"ab"), ("find", (b"x", 3)), ("take", 9)])
@example([("feed", b"abc"), ("take", 3), ("push_back", b"c"), ("feed", b"d"), ("take", 2)])
@example([("feed", b"abc"), ("take", 1), ("push_back", b"yz"), ("take", 4)])
def test_any_steps_give_what_a_plain_text_gives(steps: list[tuple[str, Any]]) -> None:
    buffer, plain = ReceiveBuffer(), b""
    for step, value in steps:
        match step:
            case "feed":
                buffer.feed(value)
                plain += value
            case "push_back":
                buffer.push_back(value)
                plain = value + plain
            case "take":
                assert buffer.take(value) == plain[:value]
                plain = plain[value:]
            case "peek":
                assert buffer.peek(value) == plain[:value]
            case "skip":
                buffer.skip(re.compile(value))
                plain = re.sub(rb"\A(?:" + value + rb")", b"", plain)
            case "find":
                needle, limit = value
                assert buffer.find(needle, limit) == plain[:limit].find(needle)
        assert len(buffer) == len(plain)
    assert buffer.take(len(plain) + 1) == plain
    assert not len(buffer)


@pytest.mark.parametrize(("limit", "found"), [(0, -1), (3, -1), (4, -1), (5, 3), (100, 3)])
def test_what_is_looked_for_must_lie_within_the_limit_as_a_whole(limit: int, found: int) -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"\r\nabc\r\n")
    assert buffer.take(2) == b"\r\n"
    assert buffer.find(b"\r\n", limit) == found


def test_the_end_is_remembered_beside_the_bytes_that_came_before_it() -> None:
    buffer = ReceiveBuffer()
    before = buffer.at_eof
    buffer.feed(b"last")
    buffer.feed_eof()
    assert (before, buffer.at_eof) == (False, True)
    assert buffer.take(10) == b"last"
    assert buffer.at_eof


def test_what_was_taken_does_not_change_with_what_comes() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"ab")
    seen, taken = buffer.peek(2), buffer.take(1)
    buffer.push_back(b"X")
    buffer.feed(b"c")
    assert (seen, taken, buffer.take(9)) == (b"ab", b"a", b"Xbc")


def test_many_small_takes_from_much_data_keep_only_what_is_left() -> None:
    buffer = ReceiveBuffer()
    data = bytes(range(256)) * 1024
    buffer.feed(data)
    taken = [buffer.take(1000) for _ in range(200)]
    assert b"".join(taken) == data[:200_000]
    # It may keep some of what was taken, but not all of it for as long as anything is left.
    assert len(buffer._data) < len(data) - 100_000
    assert buffer.take(len(data)) == data[200_000:]
