"""Covers sensitive values in the lines of a run, also those that go from line to line.  Fails closed.

A line that ends as a value begins cannot be shown before it is known how its stream goes on.  So it waits: for the
next lines of that stream, or for the end of the run.  It does not wait for long: what comes a second later, or behind
64 KiB of what others have written, no longer counts.  The end that may be a beginning is then covered, unless it is so
short that it gives nothing away: every log is full of lines that end with the first letter of something.  All of this
follows from the log alone, times and all, so that a line is the same whoever reads it, and whenever.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence
from typing import Final

from tentacle.masking import SHORTEST, Mask

log = logging.getLogger(__name__)

WITHHELD: Final = "[Tentacle withheld this line: its sensitive values could not be masked.]"
_FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


class NoMoreLines(enum.Enum):
    """Why no more lines of a stream can be had at this moment."""

    ENDED = "there will never be any"
    NOT_YET = "there may be some later"
    TOO_FAR = "they are too far away, or come too late, to wait for them"


NextLines = Callable[[], str | NoMoreLines]
"""The next lines of the stream, joined, each time it is asked."""


class LineMasking:
    """Covers what `mask` covers; everything, when there is none."""

    def __init__(self, mask: Mask | None) -> None:
        self._mask = mask

    def __bool__(self) -> bool:
        return self._mask is None or bool(self._mask)

    def tail(self, before: str, lines: Sequence[str]) -> str:
        """What has to be remembered of a stream that said `lines` after `before`."""
        reach = self._mask.reach if self._mask else 0
        if not reach:
            return ""
        if len(lines) == 1:
            return (before + lines[0])[-reach:]
        end = ""
        for line in reversed(lines):
            end = line[-reach:] + end
            if len(end) >= reach:
                return end[-reach:]
        return (before + end)[-reach:]

    def cover(self, lines: Sequence[str], before: str, next_lines: NextLines) -> list[str]:
        """The first of the `lines` that may be shown now, as they may be shown.  `before` is the stream's `tail`."""
        if self._mask is None:
            return [WITHHELD] * len(lines)
        try:
            return _cover(self._mask, lines, before, next_lines)
        except _FAILURES as error:
            return _withheld(lines, error)

    def cover_entry(self, text: str) -> str:
        """An entry of the agent's own, which stands alone: it ends no value and begins none."""
        if self._mask is None:
            return text
        try:
            return self._mask.cover(text) if self._mask.is_in(text) else text
        except _FAILURES as error:
            return _withheld((text,), error)[0]


def _withheld(lines: Sequence[str], error: Exception) -> list[str]:
    # Nothing of the error but its kind: it may know the line.
    log.error("%d line(s) of a script were withheld: masking failed (%s)", len(lines), type(error).__name__)
    return [WITHHELD] * len(lines)


def _cover(mask: Mask, lines: Sequence[str], before: str, next_lines: NextLines) -> list[str]:
    text = before + "".join(lines)
    after, open_end = "", mask.open_end(text)
    if not open_end and not mask.is_in(text):
        return list(lines)
    end, rest = text[-mask.reach :], NoMoreLines.NOT_YET
    while open_end > len(after):
        more = next_lines()
        if isinstance(more, NoMoreLines):
            rest = more
            break
        after += more[: mask.reach]
        open_end = mask.open_end(end + after)
    waiting = max(open_end - len(after), 0)
    hidden = waiting if rest is NoMoreLines.TOO_FAR and waiting >= SHORTEST else 0
    covered = mask.cover_lines(lines, before, after, hidden_end=hidden)
    return covered[: _settled(lines, waiting)] if rest is NoMoreLines.NOT_YET else covered


def _settled(lines: Sequence[str], waiting: int) -> int:
    """How many of the lines end before the last `waiting` characters."""
    number = len(lines)
    while number and waiting > 0:
        number -= 1
        waiting -= len(lines[number])
    return number
