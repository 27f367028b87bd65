from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.arguments import argument_vector, tokenise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("  \t ", ()),
        ("a b\tc", ("a", "b", "c")),
        ('"a b" c', ("a b", "c")),
        ("'a b' c", ("'a", "b'", "c")),
        ("a\\ b", ("a\\", "b")),
        ('"a\\"b"', ('a"b',)),
        ('a""b', ("ab",)),
        ('""', ("",)),
        ('"unbalanced x', ("unbalanced x",)),
        ("\\\\server\\x", ("\\\\server\\x",)),
        ('"a""b" c', ('a"b', "c")),
        ('a\\\\"b c"', ("a\\b c",)),
        ('a\\\\\\"b c', ('a\\"b', "c")),
        ('"a\\\\"', ("a\\",)),
        ('"x""', ('x"',)),
        ("$HOME `id` *", ("$HOME", "`id`", "*")),
        ("a\nb", ("a\nb",)),
    ],
)
def test_splits_as_the_original(text: str, expected: tuple[str, ...]) -> None:
    assert tokenise(text) == expected


def test_arguments_are_joined_by_blanks_and_split_again() -> None:
    assert argument_vector(["a b", '"c', 'd"']) == ("a", "b", "c d")


@given(st.text(st.sampled_from('ab \t"\\'), max_size=30))
def test_never_fails_and_invents_nothing(text: str) -> None:
    joined = "".join(tokenise(text))
    assert len(joined) <= len(text)
    assert joined.count("a") == text.count("a")


@given(st.lists(st.text(st.characters(exclude_characters='"\\ \t'), min_size=1)))
def test_plain_words_come_through(words: list[str]) -> None:
    assert argument_vector(words) == tuple(words)


@given(st.lists(st.text(), max_size=6))
def test_what_a_careful_caller_quotes_comes_through(words: list[str]) -> None:
    assert argument_vector([_quote(word) for word in words]) == tuple(words)


def _quote(word: str) -> str:
    """By the documented rule: backslashes double in front of a quote."""
    quoted, slashes = "", 0
    for character in word:
        if character == "\\":
            slashes += 1
            continue
        quoted += "\\" * (2 * slashes + 1 if character == '"' else slashes) + character
        slashes = 0
    return '"' + quoted + "\\" * (2 * slashes) + '"'
