"""`create-instance` (docs/spec/command-line.md, "create-instance")."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest


def home_of(tentacle: Any, *where: str) -> str:
    return str(json.loads(tentacle.ok("show-configuration", *where).out)["Octopus"]["Home"])


def test_a_relative_configuration_is_seen_from_the_current_directory(tentacle: Any) -> None:
    ended = tentacle.ok("create-instance", "--config", "sub/I.cfg")
    path = tentacle.cwd / "sub" / "I.cfg"
    assert ended.lines == [
        f"Creating empty configuration file: {path}",
        "Saving instance: Tentacle",
        f"Setting home directory to: {path.parent}",
    ]
    assert home_of(tentacle) == str(path.parent)


def test_the_configuration_lies_in_the_home_when_only_that_is_given(tentacle: Any, tmp_path: Path) -> None:
    ended = tentacle.ok("create-instance", "--instance=Two", f"--home={tmp_path / 'two'}")
    assert ended.lines[0] == f"Creating empty configuration file: {tmp_path / 'two' / 'Tentacle.config'}"
    assert home_of(tentacle, "--instance=two") == str(tmp_path / "two")


def test_without_name_and_path_nothing_is_registered(tentacle: Any) -> None:
    ended = tentacle.ok("create-instance")
    assert len(ended.lines) == 2
    assert tentacle.ok("list-instances").out == "No instances installed"
    assert home_of(tentacle) == str(tentacle.cwd)
    assert tentacle.ok("configure", "--port=5").lines[-1] == "These changes require a restart of the service."


def test_a_relative_home_with_a_configuration_elsewhere_means_what_was_typed(tentacle: Any, tmp_path: Path) -> None:
    tentacle.ok("create-instance", "--home=h", f"--config={tmp_path}/c/I.cfg", "--instance=I")
    assert home_of(tentacle, "--instance=I") == str(tentacle.cwd / "h")


def test_making_it_again_keeps_its_settings(tentacle: Any, instance: Path) -> None:
    tentacle.ok("configure", "--instance=I", "--port=4711")
    ended = tentacle.ok("create-instance", "--instance=i", f"--config={instance}/I.cfg", f"--home={instance}/new")
    assert ended.lines == [
        f"Configuration file at {instance}/I.cfg already exists.",
        "Saving instance: I",
        f"Setting home directory to: {instance}/new",
        f"Until now the home directory was {instance}; what lies there stays.",
    ]
    again = tentacle.ok("create-instance", "--instance=I", f"--config={instance}/I.cfg", f"--home={instance}/new")
    assert len(again.lines) == 3
    assert json.loads(tentacle.ok("show-configuration").out)["Tentacle"]["Services"]["PortNumber"] == 4711


def test_a_name_that_gets_another_configuration_says_which_it_had(
    tentacle: Any, instance: Path, tmp_path: Path
) -> None:
    tentacle.ok("configure", "--instance=I", f"--home={tmp_path}/old home")
    before = (instance / "I.cfg").read_bytes()
    ended = tentacle.ok("create-instance", "--instance=i", f"--config={tmp_path}/other/I.cfg")
    back = ["create-instance", "--instance=I", f"--config={instance}/I.cfg", f"--home={tmp_path}/old home"]
    assert ended.lines[1:] == [
        "Saving instance: I",
        f"Setting home directory to: {tmp_path}/other",
        f"Until now the instance I had the configuration {instance}/I.cfg, of which nothing was changed.",
        f"To go back to it: {shlex.join(['Tentacle', *back])}",
    ]
    assert len(tentacle.ok(*back).lines) == 5
    assert (instance / "I.cfg").read_bytes() == before
    assert home_of(tentacle, "--instance=I") == f"{tmp_path}/old home"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "x" * 300, "a\nb", "*"])
def test_a_name_that_no_file_can_have_is_refused_before_anything_is_written(tentacle: Any, name: str) -> None:
    ended = tentacle("create-instance", f"--instance={name}", "--config=new/I.cfg")
    assert (ended.code, ended.out) == (1, "")
    assert len(ended.err.splitlines()) <= 2
    assert not (tentacle.cwd / "new").exists()


def test_a_directory_is_no_configuration(tentacle: Any) -> None:
    (tentacle.cwd / "there").mkdir()
    for path in ("new/", "there", "there/"):
        ended = tentacle("create-instance", "--instance=I", f"--config={path}")
        assert (ended.code, ended.out) == (1, "")
    assert list(tentacle.cwd.rglob("*")) == [tentacle.cwd / "there"]


def test_a_current_directory_whose_name_is_no_text(tentacle: Any) -> None:
    strange = tentacle.cwd / "caf\udce9"
    strange.mkdir()
    for arguments in ([], ["--config=sub/I.cfg"], ["--home=sub"]):
        ended = tentacle("create-instance", "--instance=I", *arguments, cwd=strange)
        assert (ended.code, ended.out) == (1, "")
        assert "is not UTF-8 text" in ended.err
    assert list(strange.iterdir()) == []


def test_an_instance_that_cannot_be_registered_leaves_no_half_of_it(tentacle: Any, tmp_path: Path) -> None:
    (tmp_path / "machine").write_text("in the way")
    ended = tentacle("create-instance", "--instance=I", "--config=new/I.cfg")
    assert (ended.code, ended.out) == (1, "")
    assert list(tentacle.cwd.iterdir()) == []
    (tmp_path / "machine").unlink()
    tentacle.ok("create-instance", "--instance=I", "--config=new/I.cfg")
    (tmp_path / "machine" / "Tentacle" / "Instances" / "i.config").unlink()
    (tmp_path / "machine" / "Tentacle" / "Instances" / "i.config").mkdir()
    assert tentacle("create-instance", "--instance=I", "--config=new/I.cfg").code == 1
    assert (tentacle.cwd / "new" / "I.cfg").exists()  # it was there before
