"""Finding the command, the common options, and what becomes of every kind of failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tentacle import __version__


@pytest.mark.parametrize(
    "arguments",
    [
        ["version"],
        ["VERSION"],
        ["--version"],
        ["/version"],
        ["-version"],
        ["--nologo", "version"],
        ["version", "--nologo"],
        ["version", "--noconsolelogging"],
        ["version", "--console"],
        ["version", "--noninteractive"],
        ["version", "--monitorMutex=x"],
        ["version", "--format=TEXT"],
        ["version", "--"],
    ],
)
def test_version_is_found_and_common_options_do_not_matter(tentacle: Any, arguments: list[str]) -> None:
    assert tentacle.ok(*arguments).out == __version__


@pytest.mark.parametrize("arguments", [[], [""], ["--console", "version"], ["--nologo"], ["--foo"], ["--"], ["/"]])
def test_without_a_command_the_usage_is_shown(tentacle: Any, arguments: list[str]) -> None:
    ended = tentacle(*arguments)
    assert (ended.code, ended.err) == (2, "")
    assert ended.out.startswith("Usage: Tentacle <command>")


def test_without_a_command_the_usage_may_be_json(tentacle: Any) -> None:
    ended = tentacle("--format=json")
    assert ended.code == 2
    assert json.loads(ended.out)["Commands"]


def test_terminal_controls_in_an_unknown_command_are_shown_and_not_obeyed(tentacle: Any) -> None:
    assert tentacle("x\x1b[2J").err == "Command 'x\\x1b[2J' is not supported\n"


def test_noconsolelogging_leaves_data_and_errors(tentacle: Any, instance: Path) -> None:
    assert tentacle.ok("configure", "--instance=I", "--port=1", "--noconsolelogging").out == ""
    assert "Services listen port: 1" in tentacle.log(instance)
    assert "PortNumber" in tentacle.ok("show-configuration", "--instance=I", "--noconsolelogging").out
    assert tentacle("configure", "--bogus", "--noconsolelogging").err != ""
