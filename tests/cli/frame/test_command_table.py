"""The table of commands: which word means which, and that each has its module."""

from __future__ import annotations

import pytest

from tentacle.cli.frame.command_table import find, nearest


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("version", "version"),
        ("--VERSION", "version"),
        ("/version", "version"),
        ("-?", "help"),
        ("h", "help"),
        ("run", "agent"),
    ],
)
def test_words_find_commands(word: str, name: str) -> None:
    entry = find(word)
    assert entry is not None
    assert entry.name == name


@pytest.mark.parametrize("word", ["", "-", "//", "unknown-command"])
def test_other_words_find_nothing(word: str) -> None:
    assert find(word) is None


def test_a_misspelt_word_is_near_its_command() -> None:
    assert nearest("create-instnace") == "create-instance"
    assert nearest("--Regster-worker") == "register-worker"
    assert nearest("zzz") is None
