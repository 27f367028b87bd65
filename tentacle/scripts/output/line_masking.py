"""Masks sensitive values in the lines of a run, also values that span several lines.  Fails closed.

A line that ends with the beginning of a value cannot be shown before its stream goes on.  So it waits for the next
lines of that stream, or for the end of the run, but not for long: what comes more than a second later, or after 64 KiB
of other output, no longer counts.  Then the end of the line that may begin a value is masked, unless it is too short to
give anything away: many lines end with the first letter of some value.  All this depends on the log and its times
alone, so every reader sees the same line at any time.
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
    """Why no further lines of a stream are available now."""

    ENDED = "there will never be any"
    NOT_YET = "there may be some later"
    TOO_FAR = "they are too far away, or come too late, to wait for them"


NextLines = Callable[[], str | NoMoreLines]
"""Returns the next lines of the stream, joined, with each call."""


class LineMasking:
    """Masks what `mask` covers; without a mask, withholds every line."""

    def __init__(self, mask: Mask | None) -> None:
        self._mask = mask

    def __bool__(self) -> bool:
        return self._mask is None or bool(self._mask)

    def tail(self, before: str, lines: Sequence[str]) -> str:
        """Returns the end of a stream, after `before` and `lines`, that may begin a value."""
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
        """Returns those first of the `lines` that may be shown now, masked.  `before` is the stream's `tail`."""
        if self._mask is None:
            return [WITHHELD] * len(lines)
        try:
            return _cover(self._mask, lines, before, next_lines)
        except _FAILURES as error:
            return _withheld(lines, error)

    def cover_entry(self, text: str) -> str:
        """Returns an entry of the agent's own, masked.  No value spans such entries."""
        if self._mask is None:
            return text
        try:
            return self._mask.cover(text) if self._mask.is_in(text) else text
        except _FAILURES as error:
            return _withheld((text,), error)[0]


def _withheld(lines: Sequence[str], error: Exception) -> list[str]:
    # Only the type of the error: its text may quote the line.
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
    if rest is NoMoreLines.NOT_YET:
        # The lines that hold the last `waiting` characters cannot be shown yet.
        while covered and waiting > 0:
            covered.pop()
            waiting -= len(lines[len(covered)])
    return covered
