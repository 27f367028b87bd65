"""`new-certificate` (docs/spec/command-line.md, "new-certificate")."""

from __future__ import annotations

import json
from pathlib import Path
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


def test_the_one_that_is_replaced_is_kept_and_can_be_had_back(tentacle: Any, instance: Path) -> None:
    old = tentacle.ok("new-certificate").lines[1]
    said = tentacle.ok("new-certificate").lines
    kept = instance / f"I.cfg.certificate-{old}"
    back = ("import-certificate", "--instance=I", f"--from-file={kept}")
    assert said[2:4] == [
        f"The certificate that it replaces, {old}, is kept in {kept}",
        f"To go back to it: Tentacle {' '.join(back)}",
    ]
    assert said[4].startswith("An Octopus Server that knows this Tentacle by the old thumbprint refuses it until")
    assert said[5:] == [RESTART]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE KEY" not in kept.read_text()
    ended = tentacle.ok(*back)
    assert ended.lines[:2] == [
        f"Importing the certificate stored in {kept}...",
        f"Certificate with thumbprint {old} imported successfully.",
    ]
    assert f", {said[1]}, is kept in {instance}/I.cfg.certificate-{said[1]}" in ended.lines[2]
    assert thumbprint(tentacle) == old
    assert "is kept in" not in tentacle.ok(*back).out, "nothing is replaced"
    told = json.loads(tentacle.ok("new-certificate", "--format=json").out)
    assert told["Kept"] == {old: str(kept)}


def test_a_kept_one_is_of_no_use_to_another_instance(tentacle: Any, instance: Path, tmp_path: Path) -> None:
    old = tentacle.ok("new-certificate").lines[1]
    tentacle.ok("new-certificate")
    tentacle.ok("create-instance", "--instance=J", f"--config={tmp_path}/J/J.cfg")
    tentacle.ok("new-certificate", "--instance=J")
    ended = tentacle("import-certificate", "--instance=J", f"--from-file={instance}/I.cfg.certificate-{old}")
    assert ended.code == 1
    assert "cannot be unsealed" in ended.err


def test_both_of_a_rotation_are_kept(tentacle: Any, instance: Path) -> None:
    tentacle.ok("new-certificate")
    tentacle.ok("rotate-certificate")
    tentacle.ok("new-certificate")
    assert len(list(instance.glob("I.cfg.certificate-*"))) == 2


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
