"""Secret values in a log are replaced by asterisks, wherever they are and however they overlap.

The logs of scripts and the log of the agent both use this.  All occurrences of all values are covered: a longer value
counts over a shorter one inside it, and of values that overlap nothing is left.  Pure.  Must not know where a value
comes from or where a text goes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

MASK: Final = "********"
SHORTEST: Final = 4
"""Characters; shorter values would cover half of every log (docs/spec/services.md, "Masking")."""
_LONGEST_PIECE: Final = 256

Span = tuple[int, int]
"""The beginning and the end of a part of a text."""


def worth_masking(values: Iterable[str | None]) -> Iterator[str]:
    """Yields the values as they are looked for in lines: without line ends, and none that is too short
    (docs/spec/services.md, "Masking").
    """
    for value in values:
        joined = (value or "").replace("\r", "").replace("\n", "")
        if len(joined) >= SHORTEST:
            yield joined


class Mask:
    """Covers `values` in texts.  Immutable; its `repr` shows no value."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = tuple({piece for value in values for piece in _pieces(value)})
        self._beginnings = _beginnings(self._values)
        self.reach = max(map(len, self._values), default=1) - 1
        """How many characters before and after a place may decide whether it is covered."""

    def __bool__(self) -> bool:
        return bool(self._values)

    def is_in(self, text: str) -> bool:
        """Whether `text` holds a value."""
        for value in self._values:  # noqa: SIM110 - a generator would take three times as long
            if value in text:
                return True
        return False

    def spans(self, text: str) -> Iterator[Span]:
        """Yields every occurrence of every value, in no order; those of one value that overlap are one span."""
        for value in self._values:
            length, start = len(value), text.find(value)
            while start >= 0:
                end = start + length
                further = text.find(value, start + 1)
                while 0 <= further < end:
                    end = further + length
                    further = text.find(value, further + 1)
                yield start, end
                start = further

    def open_end(self, text: str) -> int:
        """Returns the length of the longest end of `text` that is the beginning of a value."""
        for length, value in self._beginnings.get(text[-1:], ()):
            if text.endswith(value[:length]):
                return length
        return 0

    def cover(self, text: str) -> str:
        """Returns `text` with every value covered."""
        return cover(text, merged(self.spans(text)))

    def cover_lines(self, lines: Sequence[str], before: str = "", after: str = "", *, hidden_end: int = 0) -> list[str]:
        """Returns `lines` with every value covered, also one that goes on in the next line.

        `before` and `after` are the texts around them: at least `reach` characters, or as many as there are.
        The last `hidden_end` characters in front of `after` are covered whatever they are.
        """
        text = before + "".join(lines)
        spans = list(self.spans(text + after))
        if hidden_end:
            spans.append((len(text) - hidden_end, len(text)))
        if not spans:
            return list(lines)
        borders = list(accumulate(map(len, lines), initial=len(before)))
        touched: dict[int, list[Span]] = {}
        for begin, end in merged(spans):
            line = max(bisect_right(borders, begin) - 1, 0)
            while line < len(lines) and borders[line] < end:
                inside = (max(begin, borders[line]) - borders[line], min(end, borders[line + 1]) - borders[line])
                if inside[0] < inside[1]:
                    touched.setdefault(line, []).append(inside)
                line += 1
        covered = list(lines)
        for line, within in touched.items():
            covered[line] = cover(lines[line], within)
        return covered


def merged(spans: Iterable[Span]) -> list[Span]:
    """Returns the spans in order; those that overlap are joined."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def cover(text: str, spans: Iterable[Span]) -> str:
    """Returns `text` with a mask in place of each of the `spans`, which are `merged`."""
    kept: list[str] = []
    at = 0
    for start, end in spans:
        kept += (text[at:start], MASK)
        at = end
    return "".join((*kept, text[at:]))


def _pieces(value: str) -> Iterator[str]:
    """Yields pieces that cover a very long value together, so that little has to be remembered of a text."""
    for start in range(0, len(value), _LONGEST_PIECE):
        yield value[max(min(start, len(value) - _LONGEST_PIECE), 0) :][:_LONGEST_PIECE]


def _beginnings(values: Iterable[str]) -> dict[str, list[tuple[int, str]]]:
    """Returns the beginnings of all values by their last character: length and value, the longest first."""
    found: dict[str, list[tuple[int, str]]] = {}
    for value in values:
        for length in range(1, len(value)):
            found.setdefault(value[length - 1], []).append((length, value))
    for beginnings in found.values():
        beginnings.sort(key=lambda one: -one[0])
    return found
