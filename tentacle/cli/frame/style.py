"""How text for people looks: colours on a terminal that wants them, columns, spans of time, sizes.

Everything that came from outside is made visible here, so that no answer of a server moves the cursor.  Must not know
what is shown.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from tentacle.observe.text import visible
from tentacle.records import dataclass

WIDTH: Final = 80
LEAST_WIDTH: Final = 30
"""Characters.  A terminal that says it has fewer does not know how many it has."""
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SPANS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Style:
    """`colour`: whether escape sequences are welcome; `fancy`: characters beyond ASCII; `width`: of a line."""

    colour: bool = False
    fancy: bool = False
    width: int = WIDTH

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str]) -> Style:
        """What suits `stream`: colours on a terminal only, and not when `NO_COLOR` is set (https://no-color.org)."""
        plain = bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
        unicode = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
        return cls(colour=stream.isatty() and not plain, fancy=unicode, width=_width(stream))

    def good(self, text: str) -> str:
        return self._paint("32", text)

    def warn(self, text: str) -> str:
        return self._paint("33", text)

    def bad(self, text: str) -> str:
        return self._paint("1;31", text)

    def title(self, text: str) -> str:
        return self._paint("1", text)

    def faint(self, text: str) -> str:
        return self._paint("2", text)

    @property
    def dot(self) -> str:
        """What stands before the one line that matters."""
        return "●" if self.fancy else "*"

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text


def _width(stream: TextIO) -> int:
    """As wide as a narrow terminal is, which would break lines within words; and no wider than is read well."""
    try:
        found = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # no terminal
        return WIDTH
    return min(found, WIDTH) if found >= LEAST_WIDTH else WIDTH


def columns(rows: Iterable[tuple[str, str]], *, indent: int = 2, gap: int = 2, line_width: int = WIDTH) -> list[str]:
    """Names and values in two columns; a long value goes on below itself.  Both are made visible."""
    shown = [(visible(name), visible(value)) for name, value in rows]
    width = max((len(name) for name, _ in shown), default=0) + gap
    lines = []
    for name, value in shown:
        first, *rest = wrapped(value, line_width - indent - width) or [""]
        lines.append(f"{' ' * indent}{name:<{width}}{first}".rstrip())
        lines += [f"{' ' * (indent + width)}{line}" for line in rest]
    return lines


def document_text(document: Any) -> str:
    """Indented JSON, without a newline at its end, in which what cannot be printed is escaped: it may be shown."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` characters, but for words that are longer: those can be copied whole."""
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False)


def span(seconds: float) -> str:
    """A span of time in its two greatest units, e.g. `2 h 5 min`; nothing below a second, and none below zero."""
    left = max(int(seconds), 0)
    parts = []
    for size, unit in _SPANS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def size(count: int) -> str:
    """Bytes for people, e.g. `34.5 MiB`."""
    value, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def moment(seconds: float) -> str:
    """A point in time, UTC, to the second; `?` for one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "?"


def iso(seconds: float) -> str | None:
    """A point in time for programs, e.g. `2026-11-23T08:00:00Z`."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return None


def counted(number: int, word: str) -> str:
    """`1 script`, `2 scripts`."""
    return f"{number} {word}{'' if number == 1 else 's'}"
