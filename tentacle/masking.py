"""Secret values in a log are replaced by asterisks, wherever they are, however they overlap and are written.

The logs of scripts and the log of the agent both use this.  All occurrences of all values are covered: a longer value
counts over a shorter one inside it, and of values that overlap nothing is left.  Pure.  Must not know where a value
comes from or where a text goes.
"""

from __future__ import annotations

import functools
import json
import re
from array import array
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, Self
from urllib.parse import quote, quote_plus

MASK: Final = "********"
SHORTEST: Final = 4
"""Characters; shorter values would cover half of every log (docs/spec/services.md, "Masking")."""
_SHORTEST_LINE: Final = 8
"""Characters; shorter lines of a secret, a brace say, are looked for only together with their neighbours."""
_SHORTEST_CHANGED: Final = 8
"""Characters; of shorter values, and of those that are letters alone, other cases and the reverse may be words."""
_LONGEST_PIECE: Final = 256
_LONG: Final = 512
"""Characters; of longer secrets, which are keys, the lines are looked for, and those are the same in most encodings."""
_BETWEEN: Final = re.compile(
    r"(?:\x1b|\\(?:x1b|u001b|033|e))\[[0-?]*[ -/]*[@-~]"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x00+"
    r"|(?<![ \t])[ \t]*+\r?\n\s*+",
    re.IGNORECASE,
)
"""What may stand within a secret without making it another one.

Codes of a terminal, also as `\\x1b`, line ends, and the zeros that UTF-16 has in between, which no terminal shows.
"""
_CODE_SPELT_OUT: Final = re.compile(r"\\(?:x1b|u001b|033|e)\[", re.IGNORECASE)
_UNRESERVED_BY_DOTNET: Final = "-_.!*()"
_PERCENT: Final = re.compile(r"%[0-9A-F]{2}")
_UNICODE: Final = re.compile(r"\\u[0-9a-f]{4}")
_BY_BACKSLASH: Final = (re.compile(r"[^\w@%+=:,./-]"), re.compile(r"[^\w@%+=:,./-]", re.ASCII))
_IN_DOUBLE_QUOTES: Final = re.compile(r'[$`"\\]')
_MARKUP: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_QUOTED_MARKUP: Final = _MARKUP | str.maketrans({'"': "&quot;", "'": "&#x27;"})
"""As `html.escape` has them; that module brings a table of all entities along."""
_HTML_SAFE: Final = re.compile(r"[\"&'+<>`]|[^\x00-\x7f]")
_USER_INFO: Final = re.compile(r"//[^/?#@\s:]*:(?P<password>[^/?#\s]+(?=@)|.+(?=@))")
"""Also of an address that is none because the password has a `/`, `?`, `#` or blank in it."""

Span = tuple[int, int]
"""The beginning and the end of a part of a text."""


def worth_masking(values: Iterable[str | None]) -> Iterator[str]:
    """Yields the values that are not too short, line ends not counted (docs/spec/services.md, "Masking")."""
    for value in values:
        if value and len(_joined(value)) >= SHORTEST:
            yield value


def password_in(address: str) -> str | None:
    """Returns the password in `http://user:password@host`, as it is written there; None where there is none.

    In `http://host:80/a@b` it may be a port, and is hidden rather than shown.
    """
    found = _USER_INFO.search(address[: address.rfind("@") + 1])
    return found["password"] if found else None


def forms(secret: str) -> Iterator[str]:
    """Yields the texts in which a secret may stand in a log, itself first; many are the same.

    Encoded for URLs, JSON, XML and a shell, in base64, where something may stand before it, also as UTF-16, and in
    hexadecimal; in capitals, in small letters and backwards; and the lines of one that has several, which may be
    indented.
    """
    yield secret
    joined = _joined(secret)
    if len(joined) < SHORTEST:
        return
    yield joined
    lines = [line.strip() for line in secret.splitlines()]
    yield from (line for line in lines if len(line) >= _SHORTEST_LINE)
    for text in dict.fromkeys((secret, joined)):
        data = text.encode("utf-8", "replace")
        yield from _in_base64(data)
        if len(joined) > _LONG:
            continue
        yield from _in_urls(data)
        yield from _in_json(text)
        yield from _in_markup(text)
        yield from _in_shells(text)
        yield from (data.hex(), data.hex().upper())
        yield from _in_utf_16(text)
        if len(text) >= _SHORTEST_CHANGED and not text.isalpha():
            yield from (text.upper(), text.lower(), text[::-1])
    if len(joined) > _LONG:
        yield from (joined.replace("/", "\\/"), quote(joined, safe=""))


def _joined(value: str) -> str:
    return value.replace("\r", "").replace("\n", "")


def _in_urls(data: bytes) -> Iterator[str]:
    """With upper and lower case digits, a blank as `%20` and as `+`."""
    for encoded in (quote(data, safe=""), quote(data, safe=_UNRESERVED_BY_DOTNET), quote(data), quote_plus(data)):
        yield encoded
        yield _PERCENT.sub(lambda found: found[0].lower(), encoded)


def _in_json(text: str) -> Iterator[str]:
    """As Python, browsers and .NET write it."""
    plain, ascii_only = json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]
    safe = _HTML_SAFE.sub(_escaped, plain.replace('\\"', '"'))
    for encoded in (plain, ascii_only, plain.replace("/", "\\/"), ascii_only.replace("/", "\\/"), safe):
        yield encoded
        yield _UNICODE.sub(lambda found: f"\\u{found[0][2:].upper()}", encoded)


def _escaped(found: re.Match[str]) -> str:
    """A character by its number, which JSON writes as two where it lies beyond 0xffff."""
    return json.dumps(found[0])[1:-1] if ord(found[0]) > 127 else f"\\u{ord(found[0]):04x}"


def _in_markup(text: str) -> Iterator[str]:
    yield text.translate(_MARKUP)
    quoted = text.translate(_QUOTED_MARKUP)
    yield quoted
    yield from (quoted.replace("&#x27;", quote_mark) for quote_mark in ("&apos;", "&#39;", "&#039;"))
    yield text.translate(_MARKUP).replace('"', "&quot;")


def _in_shells(text: str) -> Iterator[str]:
    yield text.replace("'", "'\"'\"'")
    yield text.replace("'", r"'\''")
    yield from (special.sub(r"\\\g<0>", text) for special in _BY_BACKSLASH)
    yield _IN_DOUBLE_QUOTES.sub(r"\\\g<0>", text)
    yield text.replace("\\", "\\\\").replace("'", r"\'").replace("\n", r"\n")


def _in_base64(data: bytes) -> Iterator[str]:
    """The digits that depend on `data` alone, wherever it begins in what is encoded; in both alphabets."""
    for before in range(3):
        encoded = b64encode(bytes(before) + data).decode("ascii")
        inner = encoded[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


def _in_utf_16(text: str) -> Iterator[str]:
    """What `powershell -EncodedCommand` and programs for Windows make of it."""
    for encoding in ("utf-16-le", "utf-16-be"):
        data = text.encode(encoding, "replace")
        yield from _in_base64(data)
        yield from (data.hex(), data.hex().upper())


class Mask:
    """Covers `values` in texts.  Immutable; its `repr` shows no value."""

    def __init__(self, values: Iterable[str] = (), others: Sequence[Mask] = ()) -> None:
        """What the `others` cover is covered too."""
        # The shortest first: most texts of the agent's own are shorter than most values, and so cannot hold them.
        self._values = tuple(sorted({piece for value in values for piece in _pieces(value)}, key=len))
        self._others = tuple(others)
        self.reach: int = max([*(len(value) - 1 for value in self._values), *(one.reach for one in others)], default=0)
        """How many characters before and after a place may decide whether it is covered."""

    @classmethod
    def of_secrets(cls, secrets: Iterable[str]) -> Self:
        """Covers the secrets in all their `forms`."""
        return cls({form for secret in secrets for form in forms(secret)})

    def __bool__(self) -> bool:
        return bool(self._values) or any(self._others)

    def is_in(self, text: str) -> bool:
        """Whether `text` holds a value."""
        if self._is_in_plain(text):
            return True
        if "\x1b" in text or "\0" in text or _CODE_SPELT_OUT.search(text):
            return self._is_in_plain(_squeezed(text))
        # Lines without codes are most of all output, and searching them for line ends with `_BETWEEN` takes long.
        return "\n" in text and self._is_in_plain(_without_line_ends(text))

    def _is_in_plain(self, text: str) -> bool:
        for value in self._values:
            if value in text:
                return True
        return any(one._is_in_plain(text) for one in self._others)

    def spans(self, text: str) -> Iterator[Span]:
        """Yields every occurrence of every value, in no order; those of one value that overlap are one span.

        Codes of a terminal and line ends, with the blanks around them, do not count.
        """
        yield from self._plain_spans(text)
        if _has_between(text) and (found := list(self._plain_spans(_squeezed(text)))):
            yield from _origins(text, found)

    def _plain_spans(self, text: str) -> Iterator[Span]:
        for one in self._others:
            yield from one._plain_spans(text)
        for value in self._values:
            if (length := len(value)) > len(text):
                return
            start = text.find(value)
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
        least = max((one.open_end(text) for one in self._others), default=0)
        for end in (text[-2:], text[-1:]):
            for number in self._beginnings.get(end, ()):
                length, which = divmod(number, len(self._values))
                if length > least and text.endswith(self._values[which][:length]):
                    return length
        return least

    @functools.cached_property
    def _beginnings(self) -> dict[str, array[int]]:
        """The beginnings of all values by their last two characters, the longest first.

        Each is its length times the number of values, plus the place of the value among them: there are thousands.
        """
        found: dict[str, list[int]] = {}
        for which, value in enumerate(self._values):
            for length in range(1, len(value)):
                end = value[max(length - 2, 0) : length]
                found.setdefault(end, []).append(length * len(self._values) + which)
        return {end: array("Q", sorted(numbers, reverse=True)) for end, numbers in found.items()}

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


def _squeezed(text: str) -> str:
    """A text without what may stand within secrets."""
    return _BETWEEN.sub("", text)


def _origins(text: str, spans: Sequence[Span]) -> Iterator[Span]:
    """Yields where these parts of the `_squeezed` text lie in `text`.

    A text may be zeros throughout: so what was left out is gone through once, and not kept.
    """
    places = dict.fromkeys(sorted({place for begin, end in spans for place in (begin, end - 1)}), 0)
    left_out = 0
    gaps = _BETWEEN.finditer(text)
    gap = next(gaps, None)
    for place in places:
        while gap is not None and gap.start() - left_out <= place:
            left_out += gap.end() - gap.start()
            gap = next(gaps, None)
        places[place] = place + left_out
    yield from ((places[begin], places[end - 1] + 1) for begin, end in spans)


def _without_line_ends(text: str) -> str:
    """What `_squeezed` makes of a text without codes of a terminal."""
    first, *others = text.split("\n")
    ended = [line.removesuffix("\r").rstrip(" \t") for line in (first, *(line.lstrip() for line in others[:-1]))]
    return "".join((*ended, others[-1].lstrip())) if others else first


def _has_between(text: str) -> bool:
    return ("\x1b" in text or "\n" in text or "\0" in text or "\\" in text) and _BETWEEN.search(text) is not None


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
