"""Keeps secrets out of logs: every known one is replaced before a line is written.

Knows the secrets it was given and the form of an Octopus API key.  Must not know where a secret came from.
"""

from __future__ import annotations

import logging
import re
import threading
import weakref
from collections.abc import Iterable
from typing import Final

from tentacle.masking import MASK, Mask, cover, merged

__all__ = ["MASK", "WITHHELD", "Redactor"]

WITHHELD: Final = "[This line is withheld: its secrets could not be masked.]"
_API_KEY = re.compile(r"\bAPI-[A-Z0-9]{12,}\b", re.IGNORECASE)
_TRACEBACK = logging.Formatter()
_REMEMBERED: Final = 512
"""Texts, of so many characters at most, whose masked form is remembered: records say the same again and again."""
_FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


class Redactor(logging.Filter):
    """Replaces known secrets by `********` in texts and, as a filter on a handler, in log records."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = frozenset(filter(None, secrets))
        self._own = Mask.of_secrets(self._secrets)
        self._others: tuple[weakref.ref[Mask], ...] = ()
        """Replaced as a whole: a `WeakSet` takes longer to go through than its masks to be applied."""
        self._changing = threading.Lock()
        self._shown: dict[str, str] = {}

    def add(self, secret: str | None) -> None:
        """Masks `secret` from now on; an empty one is ignored."""
        if secret:
            self._secrets |= {secret}
            self._own = Mask.of_secrets(self._secrets)
            self._shown = {}

    @property
    def secrets(self) -> frozenset[str]:
        """The secrets that this redactor was given itself."""
        return self._secrets

    def watch(self, mask: Mask) -> None:
        """Also masks what `mask` covers, as long as somebody else holds a reference to it."""
        with self._changing:
            self._others = (*(one for one in self._others if one() is not None), weakref.ref(mask))
        self._shown = {}

    def redact(self, text: str) -> str:
        """Returns `text` with every known secret masked; secrets that overlap are masked together."""
        masks = [self._own, *(mask for one in self._others if (mask := one()) is not None)]
        spans = [span for mask in masks for span in mask.spans(text)]
        spans += [found.span() for found in _API_KEY.finditer(text)]
        return cover(text, merged(spans)) if spans else text

    def shown(self, text: str) -> str:
        """As `redact`, but returns `WITHHELD` when masking fails.

        May go on for a while with a mask that nobody else refers to any more.
        """
        # Another thread may learn of a secret meanwhile: it begins another dictionary.
        shown = self._shown
        if (found := shown.get(text)) is not None:
            return found
        try:
            found = self.redact(text)
        except _FAILURES:
            return WITHHELD
        if len(shown) == _REMEMBERED:
            shown.clear()
        if len(text) <= _REMEMBERED:
            shown[text] = found
        return found

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record's message, traceback and stack in place, for this handler and all after it."""
        # With each secret that is learned, `_shown` is another dictionary: a record that waited is covered once more.
        if getattr(record, "covered_with", None) is self._shown:
            return True
        record.covered_with = self._shown
        try:
            try:
                message = record.getMessage()
            except (TypeError, ValueError):
                message = str(record.msg)  # The arguments do not fit the format.
            message = self.redact(message)
            trace = record.exc_text or (_TRACEBACK.formatException(record.exc_info) if record.exc_info else None)
            trace = trace and self.redact(trace)
            stack = record.stack_info and self.redact(record.stack_info)
        except _FAILURES:
            message, trace, stack = WITHHELD, None, None
            record.exc_info = None
        record.msg, record.args, record.exc_text, record.stack_info = message, None, trace, stack
        return True
