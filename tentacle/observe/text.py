"""Text from elsewhere on its way to a terminal or a log: visible, and on the line where it belongs.

Names come from servers, file names from attackers: neither may move the cursor or forge a second log line.
"""

from __future__ import annotations


def visible(text: str, *, keep: str = "") -> str:
    r"""`text` with what is not printable written as escapes (`\x1b`, `\n`), except the characters in `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
