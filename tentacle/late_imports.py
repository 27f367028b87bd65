"""Modules that are loaded when something of them is used for the first time.

For those that bring a large library along which most processes never need: at the top of a file it would cost every
start its time, and every idle agent its memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


class LateModule:
    """Stands for the module `name`, and has what that has; for good what it had when it was asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        found: object = getattr(import_module(self._name), attribute)
        # Only what it has not got is looked for here, and that takes many times as long.
        self.__dict__[attribute] = found
        return found


class LatePattern:
    """A regular expression that is compiled when it is used."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self._given = pattern, flags

    def __getattr__(self, attribute: str) -> object:
        found = getattr(_compile(*self._given), attribute)
        setattr(self, attribute, found)  # it costs nothing from now on
        return found


_compile = re.compile


@contextmanager
def patterns_left_for_later() -> Iterator[None]:
    """What is imported inside does not compile its patterns: hardly any is used, and one can take longer than the rest.

    For modules that only call methods of their patterns, as nearly all do.
    """
    before = re.compile
    re.compile = LatePattern  # type: ignore[assignment]
    try:
        yield
    finally:
        re.compile = before
