"""`new-certificate` (docs/spec/command-line.md, "new-certificate")."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("instance")

RESTART = "These changes require a restart of the Tentacle."


def thumbprint(tentacle: Any) -> str:
    return str(tentacle.ok("show-thumbprint", "--instance=I").out)


def test_a_new_one_is_installed_and_shown_bare(tentacle: Any) -> None:
    ended = tentacle.ok("new-certificate")
    assert ended.lines[0] == "A new certificate has been generated and installed. Thumbprint:"
    assert ended.lines[2:] == [RESTART]
    assert thumbprint(tentacle) == ended.lines[1]
    assert tentacle.ok("show-thumbprint", "--thumbprint-only", "--format=json").out == (
        f'{{"Thumbprint":"{ended.lines[1]}"}}'
    )


def test_if_blank_keeps_the_one_that_is_there(tentacle: Any) -> None:
    assert tentacle.ok("new-certificate", "-b").lines[-1] == RESTART
    before = thumbprint(tentacle)
    assert tentacle.ok("new-certificate", "--if-blank").out == (
        "A certificate already exists, no changes will be applied.\n"
    )
    assert thumbprint(tentacle) == before


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["-b", "-e", "x"], "--if-blank and --export-file"),
        (["-b", "--export-pfx=x"], "--if-blank and --export-pfx"),
        (["-ex", "--export-pfx=x"], "--export-file and --export-pfx"),
    ],
)
def test_what_cannot_be_together(tentacle: Any, arguments: list[str], names: str) -> None:
    ended = tentacle("new-certificate", *arguments)
    assert (ended.code, ended.err) == (1, f"Invalid command: {names} cannot be specified together\n")


@pytest.mark.parametrize("target", ["missing/c.txt", "."])
def test_a_file_that_cannot_be_written_is_one_line(tentacle: Any, target: str) -> None:
    ended = tentacle("new-certificate", "--export-file", target)
    assert ended.code == 1
    assert "Traceback" not in ended.err
