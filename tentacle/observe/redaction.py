"""Secrets do not leave the process through its logs: every known one is replaced before a line is written.

Knows the secrets it was told and the shape of an Octopus API key.  Must not know where a secret came from.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Final

MASK: Final = "********"
_API_KEY = re.compile(r"\bAPI-[A-Z0-9]{12,}\b", re.IGNORECASE)
_TRACEBACK = logging.Formatter()


class Redactor(logging.Filter):
    """Replaces known secrets by `********` in texts and, as a filter on a handler, in log records."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets: frozenset[str] = frozenset(filter(None, secrets))

    def add(self, secret: str | None) -> None:
        """Masks `secret` from now on; an empty one is ignored."""
        if secret:
            self._secrets |= {secret}

    def redact(self, text: str) -> str:
        """`text` with every known secret masked; secrets that overlap are masked together, so no end remains."""
        kept: list[str] = []
        at = 0
        for start, end in _merged(self._spans(text)):
            kept += [text[at:start], MASK]
            at = end
        return "".join([*kept, text[at:]])

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record's message and traceback in place, for this handler and all after it."""
        record.msg = self.redact(_message(record))
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = _TRACEBACK.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self.redact(record.exc_text)
        return True

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        for secret in self._secrets:
            start = text.find(secret)
            while start >= 0:
                yield start, start + len(secret)
                start = text.find(secret, start + 1)
        yield from (match.span() for match in _API_KEY.finditer(text))


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _message(record: logging.LogRecord) -> str:
    """The record's text; a call whose arguments do not fit its format still tells what it can."""
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return str(record.msg)
