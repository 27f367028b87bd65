"""`completion`: which shells there are, and that the script knows every command; the scripts themselves are tried in
tests/cli/frame/test_completion.py.
"""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.mark.parametrize("words", [[], ["tcsh"], ["bash", "zsh"]])
def test_other_shells_are_named(tentacle: Any, words: list[str]) -> None:
    ended = tentacle("completion", *words)
    assert ended.code == 1
    assert "bash, zsh, fish" in ended.err


def test_every_command_and_option_is_there(tentacle: Any) -> None:
    text = tentacle.ok("completion", "bash").out
    for command in json.loads(tentacle.ok("help", "--format=json").out)["Commands"]:
        options = json.loads(tentacle.ok(command["Name"], "--help", "--format=json").out)["Options"]
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{command['Name']}) words=("))
        for option in options:
            if len(option["Name"]) > 1:
                assert f"--{option['Name']}" in line
