"""`delete-instance` (docs/spec/command-line.md, "delete-instance")."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_deleting_forgets_the_name_only(tentacle: Any, instance: Path) -> None:
    assert tentacle.ok("delete-instance", "--instance=i").out == "Deleted instance: I\n"
    assert (instance / "I.cfg").exists()
    ended = tentacle("delete-instance", "--instance=I")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "Instance I of Tentacle has not been configured on this machine. Available instances: .",
        "Set one up with 'Tentacle init', or make one with 'Tentacle create-instance'.",
    ]


def test_an_instance_whose_configuration_is_gone_can_be_deleted(tentacle: Any, instance: Path) -> None:
    (instance / "I.cfg").unlink()
    ended = tentacle("show-thumbprint", "--instance=I")
    assert ended.code == 1
    assert "could not be located at the specified location" in ended.err
    assert tentacle.ok("delete-instance", "--instance=I").out == "Deleted instance: I\n"


def test_a_configuration_given_by_its_path_has_no_name_to_delete(tentacle: Any, instance: Path) -> None:
    assert tentacle.ok("delete-instance", f"--config={instance}/I.cfg").out == ""
    assert len(tentacle.ok("list-instances").lines) == 1


def test_an_unknown_instance(tentacle: Any, instance: Path) -> None:
    ended = tentacle("show-thumbprint", "--instance=invalidinstance")
    assert (ended.code, ended.out) == (1, "")
    assert "Instance invalidinstance of Tentacle has not been configured" in ended.err
    assert "Available instances: I." in ended.err
    assert instance.exists()
