"""`delete-instance` (docs/spec/command-line.md, "delete-instance")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tentacle.agent.lock import only_agent
from tentacle.settings.store import SettingsFile


def test_deleting_forgets_the_name_only_and_says_what_stays(tentacle: Any, instance: Path) -> None:
    config, home = instance / "I.cfg", instance / "home"
    tentacle.ok("configure", "--instance=I", f"--home={home}")
    deleted = tentacle.ok("delete-instance", "--instance=i")
    again = f"create-instance --instance=I --config={config} --home={home}"
    assert deleted.lines == [
        "Deleted instance: I",
        f"Its configuration stays: {config}, and its key: {config}.key",
        f"Its home directory stays: {home}",
        f"To have the instance again: Tentacle {again}",
    ]
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
    said = tentacle.ok("delete-instance", "--instance=I").lines
    assert said == ["Deleted instance: I", f"Its home directory stays: {instance}"]


def test_what_the_servers_know_stays_too(tentacle: Any, ready: SettingsFile) -> None:
    tentacle.ok("configure", "--instance=I", f"--trust={'AB' * 20}")
    said = tentacle.ok("delete-instance", "--instance=I").out
    assert f"deregistered: Tentacle deregister-worker --config={ready.path} --server=..." in said


def test_an_instance_that_an_agent_works_for_is_not_deleted(tentacle: Any, instance: Path) -> None:
    for options in ((), ("--uninstall-service",)):
        with only_agent(instance):
            refused = tentacle("delete-instance", "--instance=I", *options)
        assert (refused.code, refused.out) == (1, "")
        first, second = refused.err.splitlines()
        assert first == f"An agent runs for the instance 'I', in {instance}; nothing was deleted."
        assert second.startswith("Stop it first: kill ")
    assert len(tentacle.ok("list-instances").lines) == 1
    tentacle.ok("delete-instance", "--instance=I", "--uninstall-service")
    assert tentacle.ok("list-instances").out == "No instances installed"


def test_a_configuration_given_by_its_path_has_no_name_to_delete(tentacle: Any, instance: Path) -> None:
    assert tentacle.ok("delete-instance", f"--config={instance}/I.cfg").out == ""
    assert len(tentacle.ok("list-instances").lines) == 1


def test_an_unknown_instance(tentacle: Any, instance: Path) -> None:
    ended = tentacle("show-thumbprint", "--instance=invalidinstance")
    assert (ended.code, ended.out) == (1, "")
    assert "Instance invalidinstance of Tentacle has not been configured" in ended.err
    assert "Available instances: I." in ended.err
    assert instance.exists()
