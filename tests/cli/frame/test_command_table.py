"""The table of commands: which word means which, and that each has its module."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.cli.frame.command_table import ENTRIES, GROUPS, Entry, entry_of, find, nearest
from tentacle.cli.main import load


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


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_command_is_where_the_table_says(entry: Entry) -> None:
    command = load(entry)
    assert (command.name, command.entry, entry_of(entry.name)) == (entry.name, entry, entry)
    if not entry.shared_module:
        assert Path(import_module(entry.module).__file__ or "").stem == entry.name.replace("-", "_")


def test_no_word_means_two_commands() -> None:
    words = [word for entry in ENTRIES for word in (entry.name, *entry.aliases)]
    assert len(words) == len(set(words))


@given(st.sampled_from(ENTRIES), st.text(alphabet="-/", max_size=3), st.randoms())
def test_neither_case_nor_dashes_of_a_name_count(entry: Entry, dashes: str, random: Random) -> None:
    for word in filter(None, (entry.name, *entry.aliases)):
        assert find(dashes + "".join(random.choice((c, c.upper())) for c in word)) is entry


@given(st.text() | st.sampled_from(ENTRIES).map(lambda entry: entry.name[1:] + "x"))
def test_whatever_is_near_is_a_command(word: str) -> None:
    name = nearest(word)
    assert name is None or find(name) is not None


def test_general_help_has_every_command_in_one_group() -> None:
    grouped = [name for _title, names in GROUPS for name in names]
    assert sorted(grouped) == [entry.name for entry in ENTRIES]
