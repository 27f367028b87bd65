"""Makes text from outside safe to show on a terminal or in a log.

A server's name or an attacker's file name must not move the cursor or forge a second log line.
"""

from __future__ import annotations


def visible(text: str, *, keep: str = "") -> str:
    r"""Returns `text` with unprintable characters as escapes (`\x1b`, `\n`), except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)
