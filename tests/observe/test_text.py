"""Text from outside, on a terminal or in a log."""

from __future__ import annotations

import pytest

from tentacle.observe.text import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode", "plain ünïcode"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\rb\x00c\u202e", "a\\rb\\x00c\\u202e"),
        ("two\nlines", r"two\nlines"),
        ("\udce4", r"\udce4"),
    ],
)
def test_what_is_not_printable_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_some_characters_may_be_kept() -> None:
    assert visible("a\nb\tc\r", keep="\n\t") == "a\nb\tc\\r"
