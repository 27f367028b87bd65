"""What to type on a machine: for a shell, and with options that there are."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.devserver.page.commands import first_steps, port_of, registration_commands

THUMBPRINT = "78565D222B645F48598D42DD56934802C98BB16F"
TENTACLE = Path(sys.executable).with_name("tentacle")


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_a_name_is_one_word_whatever_is_in_it(name: str) -> None:
    text = registration_commands("http://h", 1, THUMBPRINT, name, name)["polling"].text
    assert {f"--workerpool={name}", *([f"--space={name}"] if name else [])} <= set(shlex.split(text))


COMMANDS = registration_commands("http://[::1]:8065", 8043, THUMBPRINT, "It's", "A & B")


@pytest.mark.parametrize("key", COMMANDS)
def test_a_command_has_options_that_this_agent_knows(key: str) -> None:
    for line in COMMANDS[key].text.replace("\\\n", "").splitlines():
        program, command, *options = shlex.split(line)
        assert program == "tentacle"
        shown = subprocess.run([TENTACLE, command, "--help"], capture_output=True, text=True, check=True).stdout
        for option in options:
            assert re.search(rf"{option.partition('=')[0]}[=, ]", shown), option
    assert ("--workerpool=A & B" in shlex.split(COMMANDS[key].text)) is (key != "trust")
    assert ("--space=It's" in shlex.split(COMMANDS[key].text)) is (key != "trust")


def test_the_first_steps_can_be_pasted_into_a_shell() -> None:
    steps = first_steps("http://127.0.0.1:8065", port_of("127.0.0.1:8043"), THUMBPRINT)
    words = shlex.split("\n".join(steps[3:]), comments=True)
    assert words[:4] == ["(umask", "077;", "cat", ">key)"]
    assert words[-2:] == ["tentacle", "agent"]
    assert "--server-comms-port=8043" in words
