"""Instances of a user without rights, and those of root seen by the user of a service: no variable says where they are.

In a machine of its own (see `machine.py`), whose `/etc/octopus` is nobody else's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine import Machine, missing_tools
from tests.e2e.stage import Process
from tests.e2e.test_systemd import wait_until

AS_NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("env", "-C", "/srv/person", "HOME=/srv/person"),
)
HOME = "/srv/person/.local/share/Octopus/Worker"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    missing = missing_tools()
    assert not missing, f"to boot systemd, this machine needs {', '.join(missing)} (tests/peers.sh installs it)"
    with Machine(tmp_path) as made:
        made.run("install", "--directory", "--owner=65534", "--mode=700", "/srv/person")
        yield made


def stop(machine: Machine, agent: Process, home: str) -> None:
    """Ends an agent, whose process has a number of its own inside."""
    file = machine.root / home.removeprefix("/") / "status.json"
    wait_until(file.exists)
    status = json.loads(file.read_text())
    machine.run("kill", str(status["pid"]))
    assert agent.wait() == 0


def test_a_user_who_is_not_root_has_instances_without_a_variable(machine: Machine) -> None:
    def tentacle(*arguments: str, expect: int = 0) -> str:
        return machine.run(*AS_NOBODY, "tentacle", *arguments, expect=expect)

    assert tentacle("list-instances") == "No instances installed"
    machine.run("install", "--directory", "/srv/closed")
    for option in ("--config", "--app"):
        asked = ("init", "--yes", "--no-register", "--mode=polling", f"{option}=/srv/closed/x/y")
        refused = tentacle(*asked, expect=1).splitlines()[-2:]
        assert refused[0].endswith("'/srv/closed/x/y' as user 'nobody'. Please check file permissions."), refused
        assert refused[1] == f"Run this as root, or give a path in a directory of yours by {option}=PATH."
    assert tentacle("list-instances") == "No instances installed", "nothing was made"
    config = f"{HOME}/tentacle.config"
    said = tentacle("create-instance", "--instance=Worker", f"--config={config}")
    assert said.splitlines()[:2] == [f"Creating empty configuration file: {config}", "Saving instance: Worker"]
    assert tentacle("list-instances") == f"Instance 'Worker' uses configuration '{config}'.\n"
    tentacle("new-certificate", "--instance=Worker", "--if-blank")
    assert len(tentacle("show-thumbprint", "--instance=Worker").strip()) == 40
    tentacle("configure", "--instance=Worker", "--port=0", f"--app={HOME}/Applications")

    agent = machine.start(*AS_NOBODY, "tentacle", "agent", "--instance=Worker", "--noninteractive")
    agent.wait_for("Agent listening on")
    tentacle("livez", "--instance=Worker")
    assert "is running" in tentacle("status", "--instance=Worker")
    stop(machine, agent, HOME)

    assert tentacle("delete-instance", "--instance=Worker").startswith("Deleted instance: Worker\n")
    assert tentacle("list-instances") == "No instances installed"
    assert not (machine.root / "etc/octopus").exists()

    said = tentacle("init", "--yes", "--no-register", "--mode=polling", "--instance=Second")
    assert "Application directory set to: /srv/person/.local/share/Octopus/Second/Applications\n" in said
    assert "Second" in tentacle("list-instances")
    # Nothing that only root can do is advised.
    assert said.splitlines()[-1] == "Done.  Start it: tentacle agent --instance=Second"
    examined = tentacle("doctor")
    assert "→ tentacle agent --instance=Second\n" in examined or "-> tentacle agent --instance=Second\n" in examined
    assert "tentacle service" not in examined
    for option in ("--install", "--start", "--stop", "--uninstall", "--restart", "--reconfigure"):
        assert tentacle("service", option, expect=1).startswith("Requires elevated privileges."), option
    assert tentacle("service", "--status") == "Service Second: not installed\n"


def test_the_user_of_a_service_finds_the_instances_of_root(machine: Machine) -> None:
    config = "/etc/octopus/worker/tentacle.config"
    machine.run("tentacle", "create-instance", "--instance=Tentacle", f"--config={config}")
    machine.run("tentacle", "new-certificate", "--instance=Tentacle", "--if-blank")
    machine.run("tentacle", "configure", "--instance=Tentacle", "--port=0", "--app=/srv/person/Applications")
    machine.run("chown", "--recursive", "65534:65534", "/etc/octopus/worker")

    thumbprint = machine.run("tentacle", "show-thumbprint", "--instance=Tentacle")
    assert machine.run(*AS_NOBODY, "tentacle", "show-thumbprint") == thumbprint
    assert config in machine.run(*AS_NOBODY, "tentacle", "list-instances")
    agent = machine.start(*AS_NOBODY, "tentacle", "agent", "--instance=Tentacle", "--noninteractive")
    agent.wait_for("Agent listening on")
    stop(machine, agent, "/etc/octopus/worker")

    own = ("tentacle", "create-instance", "--config=/srv/person/tentacle.config")
    refused = machine.run(*AS_NOBODY, *own, "--instance=Tentacle", expect=1)
    assert "There is an instance called Tentacle already, in '/etc/octopus/Tentacle/Instances'" in refused
    assert not (machine.root / "srv/person/tentacle.config").exists()
    machine.run(*AS_NOBODY, *own, "--instance=Mine")
    listed = machine.run(*AS_NOBODY, "tentacle", "list-instances").splitlines()
    assert [line.split("'")[1] for line in listed] == ["Mine", "Tentacle"]
    assert "Mine" not in machine.run("tentacle", "list-instances")
    refused = machine.run(*AS_NOBODY, "tentacle", "delete-instance", "--instance=Tentacle", expect=1)
    assert "Unable to delete file '/etc/octopus/Tentacle/Instances/tentacle.config' as user 'nobody'" in refused
