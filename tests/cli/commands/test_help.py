"""`help` and `--help` (docs/spec/command-line.md, "Help text" and "Help as JSON")."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.mark.parametrize(
    "arguments",
    [
        *(["help"], ["--help"], ["-h"], ["-?"], ["/?"], ["/help"], ["h"], ["--nologo", "--help"]),
        *(["help", "--nologo"], ["help", "-x"], ["help", "-h"]),
    ],
)
def test_help_is_no_failure(tentacle: Any, arguments: list[str]) -> None:
    assert tentacle.ok(*arguments).out.startswith("Usage: Tentacle <command>")


@pytest.mark.parametrize(
    "arguments",
    [
        ["configure", "--help"],
        ["--help", "configure"],
        ["help", "configure"],
        ["CONFIGURE", "--help", "--bogus", "--port"],
        ["configure", "/HELP"],
        ["configure", "-h"],
        ["configure", "--port=1", "/?", "--bogus"],
        ["configure", "--port", "--help"],
        ["help", "Configure", "more", "words"],
    ],
)
def test_help_for_a_command_works_wherever_it_is_asked(tentacle: Any, arguments: list[str]) -> None:
    assert tentacle.ok(*arguments).out.startswith("Usage: Tentacle configure [<options>]")


def test_help_for_every_command_needs_no_instance(tentacle: Any) -> None:
    commands = json.loads(tentacle.ok("help", "--format=json").out)["Commands"]
    for name in [command["Name"] for command in commands]:
        assert tentacle.ok(name, "--help").out.startswith(f"Usage: Tentacle {name} [<options>]\n")


def test_a_command_with_an_option_of_that_name_is_given_it(tentacle: Any) -> None:
    assert "Usage:" not in tentacle("register-worker", "-h", "worker.example.com").out


def test_help_for_an_unknown_command_says_so_and_succeeds(tentacle: Any) -> None:
    ended = tentacle("help", "create-instnace")
    assert (ended.code, ended.out) == (0, "See 'Tentacle help'\n")
    assert ended.err == "Command 'create-instnace' is not supported\nDid you mean 'Tentacle create-instance'?\n"


@pytest.mark.parametrize("word", ["configure", "CONFIGURE", "--configure", "/configure"])
def test_the_word_is_read_as_a_command_is(tentacle: Any, word: str) -> None:
    """What begins with no letter is no word, and asks for everything."""
    shown = tentacle.ok("help", word).out
    assert shown.startswith("Usage: Tentacle configure [" if word[0].isalpha() else "Usage: Tentacle <command>")


def test_an_alias_is_explained_as_its_command_and_in_json_too(tentacle: Any) -> None:
    assert tentacle.ok("help", "run").out == tentacle.ok("agent", "--help").out
    as_json = tentacle.ok("help", "run", "--format=JSON").out
    assert as_json == tentacle.ok("agent", "--help", "--format=json").out
    assert json.loads(as_json)["Name"] == "agent"


def test_all_commands_in_json_are_those_of_the_text(tentacle: Any) -> None:
    text = tentacle.ok("help").out
    for name in [one["Name"] for one in json.loads(tentacle.ok("help", "--format=json").out)["Commands"]]:
        assert f"\n  {name}" in text


def test_another_format_is_text(tentacle: Any) -> None:
    """As in the original, which never refuses to help."""
    assert tentacle.ok("help", "--format=xml").out == tentacle.ok("help").out
