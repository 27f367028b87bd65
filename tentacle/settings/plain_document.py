"""Reads a configuration as our own commands write it, without the YAML library.

That is a tenth of the start of an agent, and as much of each command that looks at an instance.  Whatever is not plain
is left to it (`yaml_document.py`): a text that is understood here means the same there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

_COMMENT: Final = re.compile(r"#[ -~]*")
_LINE: Final = re.compile(r"([a-z][a-z0-9-]{0,60}):(?: (.+))?")
_IN_BLOCK: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
_VALUES: Final[tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...]] = (
    (re.compile(r"[A-Za-z/][!-~]*(?<!:)|(?=\d*[A-F])[\dA-F]{40}|\d{1,3}(\.\d{1,3}){3}", re.ASCII), str),
    (re.compile(r"0|[1-9][0-9]{0,8}"), int),
    (re.compile(r"'[ -&(-~]*'"), lambda quoted: quoted[1:-1]),
)
"""What a value looks like, and what it stands for: a word, a thumbprint or an address, a number, a text that might be
taken for something else."""
_FLAGS: Final = {"true": True, "false": False}
_NO_TEXT: Final = frozenset(("yes", "no", "on", "off", "y", "n", "null", *_FLAGS))
"""Words without quotes that are no texts, or not for every reader of YAML; compared in lower case."""


class PlainDocument(NamedTuple):
    """The values of a document, and the number of the line of each key (`certificate.thumbprint`) and each entry of a
    list (`trusted-servers[0]`)."""

    values: dict[str, Any]
    lines: dict[str, int]


class _NotPlain(Exception):
    """This needs the YAML library."""


def read_plain(text: str) -> PlainDocument | None:
    """Returns what the text of a configuration says, or None when only a reader of YAML can tell.

    Plain are a few lines of comments, then keys with values; a value is a word, a number, a flag, a text in single
    quotes or a block of lines, and at the top also keys with values, or a list of such.
    """
    if text and not text.endswith("\n"):
        return None
    lines = text.split("\n")[:-1]
    begin = next((number for number, line in enumerate(lines) if not _COMMENT.fullmatch(line)), len(lines))
    try:
        return _Reader(lines, begin).document()
    except _NotPlain:
        return None


class _Reader:
    """Goes through the lines once.  All methods raise `_NotPlain`."""

    def __init__(self, lines: list[str], begin: int) -> None:
        self._lines = lines
        self._next = begin
        self._found: dict[str, int] = {}

    def document(self) -> PlainDocument:
        values: dict[str, Any] = {}
        while self._next < len(self._lines):
            key, written = self._key()
            self._note(key)
            values[key] = self._value(written, "  ") if written else self._inner(key)
        return PlainDocument(values, self._found)

    def _inner(self, name: str) -> list[dict[str, Any]] | dict[str, Any]:
        """What stands below a key that has no value beside it."""
        entries: list[dict[str, Any]] = []
        while self._is_next("- "):
            self._found[entry := f"{name}[{len(entries)}]"] = self._next + 1
            entries.append(self._section(entry, "- "))
        return entries or self._section(name, "  ")

    def _section(self, name: str, before: str) -> dict[str, Any]:
        """Keys with values, two places further in; `before` stands before the first one."""
        values: dict[str, Any] = {}
        while self._is_next(before):
            key, written = self._key(len(before))
            self._note(f"{name}.{key}")
            values[key] = self._value(written, "    ")
            before = "  "
        if not values:
            raise _NotPlain
        return values

    def _is_next(self, before: str) -> bool:
        """Whether there is another line, and it begins so."""
        return self._next < len(self._lines) and self._lines[self._next].startswith(before)

    def _key(self, at: int = 0) -> tuple[str, str]:
        """Takes a key from the next line, and what stands beside it."""
        found = _LINE.fullmatch(self._lines[self._next], at)
        if found is None or found[1] in _NO_TEXT:
            raise _NotPlain
        self._next += 1
        return found[1], found[2] or ""

    def _note(self, name: str) -> None:
        if name in self._found:
            raise _NotPlain  # there twice, which is told elsewhere
        self._found[name] = self._next

    def _value(self, written: str, inner: str) -> Any:
        if written == "|":
            return self._block(inner)
        if written in _FLAGS:
            return _FLAGS[written]
        for pattern, meaning in _VALUES:
            if pattern.fullmatch(written) and written.lower() not in _NO_TEXT:
                return meaning(written)
        raise _NotPlain

    def _block(self, before: str) -> str:
        lines: list[str] = []
        while self._is_next(before):
            lines.append(self._lines[self._next].removeprefix(before))
            self._next += 1
        if not lines or not all(map(_IN_BLOCK.fullmatch, lines)):
            raise _NotPlain
        return "".join(f"{line}\n" for line in lines)
