"""Options that commands share, and groups of options that reach a command as one value."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tentacle.cli.frame.command import TentacleCommand, command, option
from tentacle.cli.frame.options import format_option, in_order, instance_options, json_option, together
from tentacle.cli.frame.session import CommandSession, InstanceOptions, ProcessContext
from tentacle.cli.frame.values import InvalidValue


@dataclass(frozen=True)
class Pair:
    """What a group of options becomes; the last member has an option of its own beside the group."""

    first: str | None
    second: bool
    third: str | None = "nothing"


def shown() -> Any:
    """A new function that returns what it is called with: click notes the options of a command at its function."""

    def show(_session: CommandSession, **values: Any) -> dict[str, Any]:
        return values

    return show


def names(of: TentacleCommand) -> list[str]:
    return [one["Name"] for one in json.loads(of.help_text(as_json=True))["Options"]]


def values_of(of: TentacleCommand, session: CommandSession, *arguments: str) -> dict[str, Any]:
    with of.make_context("version", list(arguments), obj=session) as context:
        found: dict[str, Any] = of.invoke(context)
    return found


@pytest.fixture
def session(tmp_path: Path) -> CommandSession:
    out = io.StringIO()
    return CommandSession(ProcessContext(environ={}, cwd=tmp_path, stdout=out, stderr=out))


PAIR = (option("--first"), option("--second", is_flag=True))


def test_a_group_is_one_value_beside_the_options_of_the_command(session: CommandSession) -> None:
    made = command("version")(option("--other")(together("pair", Pair, *PAIR)(shown())))
    found = values_of(made, session, "--first=1", "--second", "--other=2")
    assert found == {"pair": Pair("1", True), "other": "2"}
    assert values_of(made, session) == {"pair": Pair(None, False), "other": None}


def test_an_option_that_is_added_elsewhere_goes_into_the_group_of_its_name(session: CommandSession) -> None:
    made = command("version")(option("--third")(together("pair", Pair, *PAIR)(shown())))
    assert values_of(made, session, "--third=3") == {"pair": Pair(None, False, "3")}


def test_two_groups_take_nothing_from_each_other(session: CommandSession) -> None:
    made = command("version")(instance_options(together("pair", Pair, *PAIR)(shown())))
    found = values_of(made, session, "--instance=I", "--first=1")
    assert found == {"pair": Pair("1", False), "where": InstanceOptions("I", None)}


def test_options_are_shown_in_the_order_in_which_they_are_written() -> None:
    several = in_order(*(option(f"--{letter}{letter}") for letter in "cab"))
    assert names(command("version")(several(shown()))) == ["cc", "aa", "bb"]
    assert names(command("version")(together("pair", Pair, *PAIR)(json_option(shown())))) == [
        "first",
        "second",
        "format",
    ]


@pytest.mark.parametrize(("given", "as_json"), [([], False), (["--format=text"], False), (["--format=JSON"], True)])
def test_the_format_of_the_answer_is_the_sessions(session: CommandSession, given: list[str], as_json: bool) -> None:
    assert values_of(command("version")(json_option(shown())), session, *given) == {}
    assert session.as_json is as_json


def test_another_format_is_refused_while_the_line_is_read(session: CommandSession) -> None:
    with pytest.raises(InvalidValue, match="The format 'xml' is not supported"):
        values_of(command("version")(json_option(shown())), session, "--format=xml")
    # A command that makes the document itself gets the word, as it is.
    assert values_of(command("version")(format_option(shown())), session, "--format=xml") == {"output": "xml"}
