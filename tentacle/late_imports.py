"""Modules that are loaded when something of them is used for the first time.

For those that bring a large library along which most processes never need: at the top of a file it would cost every
start its time, and every idle agent its memory.
"""

from __future__ import annotations

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
