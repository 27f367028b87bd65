"""Secrets do not leave the process through its logs: every known one is replaced before a line is written.

Knows the secrets it was told and the shape of an Octopus API key.  Must not know where a secret came from.
"""

from __future__ import annotations

import logging
import re
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Final

from tentacle.masking import MASK, Mask, Span, cover, merged

__all__ = ["MASK", "WITHHELD", "Redactor"]

WITHHELD: Final = "[This line is withheld: its secrets could not be masked.]"
_API_KEY = re.compile(r"\bAPI-[A-Z0-9]{12,}\b", re.IGNORECASE)
_TRACEBACK = logging.Formatter()
_FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


class Redactor(logging.Filter):
    """Replaces known secrets by `********` in texts and, as a filter on a handler, in log records."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = frozenset(filter(None, secrets))
        self._own = Mask(self._secrets)
        self._others: weakref.WeakSet[Mask] = weakref.WeakSet()
        self._changing = threading.Lock()

    def add(self, secret: str | None) -> None:
        """Masks `secret` from now on; an empty one is ignored."""
        if secret:
            self._secrets |= {secret}
            self._own = Mask(self._secrets)

    @property
    def secrets(self) -> frozenset[str]:
        """What has been added."""
        return self._secrets

    def watch(self, mask: Mask) -> None:
        """Masks what `mask` covers, for as long as somebody else keeps it."""
        with self._changing:
            self._others.add(mask)

    def redact(self, text: str) -> str:
        """`text` with every known secret masked; secrets that overlap are masked together, so no end remains."""
        return cover(text, merged(self._spans(text)))

    def shown(self, text: str) -> str:
        """As `redact`, but never fails: what cannot be masked is not shown."""
        try:
            return self.redact(text)
        except _FAILURES:
            return WITHHELD

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record's message, traceback and stack in place, for this handler and all after it."""
        try:
            message, trace = self.redact(_message(record)), self._traceback(record)
            stack = record.stack_info and self.redact(record.stack_info)
        except _FAILURES:
            message, trace, stack = WITHHELD, None, None
            record.exc_info = None
        record.msg, record.args, record.exc_text, record.stack_info = message, None, trace, stack
        return True

    def _traceback(self, record: logging.LogRecord) -> str | None:
        text = record.exc_text or (_TRACEBACK.formatException(record.exc_info) if record.exc_info else None)
        return text and self.redact(text)

    def _spans(self, text: str) -> Iterator[Span]:
        with self._changing:
            others = list(self._others)
        for mask in (self._own, *others):
            yield from mask.spans(text)
        yield from (match.span() for match in _API_KEY.finditer(text))


def _message(record: logging.LogRecord) -> str:
    """The record's text; a call whose arguments do not fit its format still tells what it can."""
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return str(record.msg)
