"""The one matcher, against a reference that is too simple to be wrong."""

from __future__ import annotations

import time
from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.masking import MASK, Mask, cover, merged, worth_masking

VALUES = st.lists(st.text(alphabet="abc", min_size=1, max_size=6), max_size=5)
TEXTS = st.text(alphabet="abcd", max_size=40)
LINES = st.lists(st.text(alphabet="abcd", max_size=8), max_size=10)


def hidden(text: str, values: list[str]) -> list[bool]:
    """By character, whether it belongs to an occurrence of a value: every place is tried."""
    found = [False] * len(text)
    for value in values:
        for start in range(len(text) - len(value) + 1):
            if text[start : start + len(value)] == value:
                found[start : start + len(value)] = [True] * len(value)
    return found


def seen(covered: str) -> str:
    return covered.replace(MASK, "")


@given(VALUES, TEXTS)
@example(["pass", "password"], "my password")
@example(["aa"], "aaaaa")
@example(["abab", "baba"], "ababab")
def test_exactly_what_belongs_to_a_value_is_covered(values: list[str], text: str) -> None:
    mask = Mask(values)
    marks = hidden(text, values)
    assert seen(mask.cover(text)) == "".join(c for c, is_hidden in zip(text, marks, strict=True) if not is_hidden)
    assert mask.is_in(text) is any(marks)
    assert (MASK in mask.cover(text)) is any(marks)


@given(VALUES, LINES, TEXTS, TEXTS)
def test_lines_are_covered_as_the_text_is_that_they_make(
    values: list[str], lines: list[str], before: str, after: str
) -> None:
    covered = Mask(values).cover_lines(lines, before, after)
    marks = hidden(before + "".join(lines) + after, values)
    borders = list(accumulate(map(len, lines), initial=len(before)))
    for line, shown, start in zip(lines, covered, borders, strict=False):
        own = marks[start : start + len(line)]
        assert seen(shown) == "".join(c for c, is_hidden in zip(line, own, strict=True) if not is_hidden)
        assert (MASK in shown) is any(own)


@given(VALUES, LINES, TEXTS, TEXTS)
def test_what_lies_out_of_reach_does_not_matter(values: list[str], lines: list[str], before: str, after: str) -> None:
    mask = Mask(values)
    near = (before[-mask.reach :] if mask.reach else "", after[: mask.reach])
    assert mask.cover_lines(lines, *near) == mask.cover_lines(lines, before, after)


@given(LINES, TEXTS, TEXTS, st.integers(0, 60))
def test_an_end_can_be_hidden(lines: list[str], before: str, after: str, length: int) -> None:
    covered = Mask(["abc"]).cover_lines(lines, before, after, hidden_end=length)
    text = before + "".join(lines)
    marks = hidden(text + after, ["abc"])[: len(text)]
    marks[max(len(text) - length, 0) :] = [True] * min(length, len(text))
    shown = [c for c, is_hidden in zip(text, marks, strict=True) if not is_hidden]
    in_front = len([is_hidden for is_hidden in marks[: len(before)] if not is_hidden])
    assert "".join(map(seen, covered)) == "".join(shown[in_front:])


@given(VALUES, TEXTS)
def test_an_open_end_is_the_longest_beginning_of_a_value(values: list[str], text: str) -> None:
    lengths = [n for value in values for n in range(1, len(value)) if text.endswith(value[:n])]
    assert Mask(values).open_end(text) == max(lengths, default=0)


def test_very_long_values_are_covered_too() -> None:
    value = "".join(chr(0x4E00 + number) for number in range(1000))
    mask = Mask([value])
    assert seen(mask.cover(f"before {value} after")) == "before  after"
    assert mask.reach < 300
    assert seen(mask.cover(value[:600])) == value[512:600]


def test_spans_that_touch_stay_two_and_those_that_overlap_become_one() -> None:
    assert merged([(2, 4), (0, 2), (3, 6)]) == [(0, 2), (2, 6)]
    assert cover("0123456", [(1, 3), (5, 6)]) == f"0{MASK}34{MASK}6"


def test_a_mask_does_not_show_its_values() -> None:
    mask = Mask(["hunter2"])
    assert "hunter2" not in f"{mask!r} {mask}"
    assert mask
    assert not Mask()
    assert Mask().cover("anything") == "anything"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, []), ("", []), ("abc", []), ("a\r\nb", []), ("abcd", ["abcd"]), ("ab\ncd\r\n", ["abcd"])],
)
def test_which_values_are_worth_masking(value: str | None, expected: list[str]) -> None:
    assert list(worth_masking([value])) == expected


def test_values_that_overlap_themselves_everywhere_are_few_spans() -> None:
    """A line of a million equal characters, and values made of them."""
    mask = Mask(["x" * length for length in range(4, 9)])
    assert list(mask.spans("x" * 1_000_000)) == [(0, 1_000_000)] * 5
    assert mask.cover("y" + "x" * 1_000_000 + "y") == f"y{MASK}y"


def test_a_long_text_without_a_value_is_looked_through_quickly() -> None:
    mask = Mask([f"secret-{number}-value" for number in range(10)])
    text = "an ordinary line of a deployment's output, step 17 of 80; " * 20_000
    began = time.process_time()
    assert mask.cover_lines([text]) == [text]
    assert time.process_time() - began < 1
