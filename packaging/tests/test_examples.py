"""The examples: read by the tools that they are for, where these can be had, and in any case true."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from tests.e2e.machine import Machine, missing_tools
from tests.e2e.test_systemd import start_server

pytestmark = pytest.mark.timeout(900)
EXAMPLES = ROOT / "packaging/examples"
ENTRYPOINT = (ROOT / "packaging/image/entrypoint").read_text()
WRITTEN_BY_THE_AGENT = {"/etc/octopus", "/home/Octopus", "/tmp"}


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text())


def assert_known(variables: set[str]) -> None:
    for variable in variables:
        assert re.search(rf"\b{variable.removesuffix('_FILE')}\b", ENTRYPOINT), variable


def test_compose_sets_only_what_the_image_reads_and_writes_only_where_it_may() -> None:
    document = read("compose.yaml")
    (service,) = document["services"].values()
    assert_known(set(service["environment"]))
    assert service["read_only"]
    assert {path.partition(":")[0] for path in (*service["tmpfs"], *service["volumes"])} == WRITTEN_BY_THE_AGENT
    assert service["environment"]["ServerApiKey_FILE"] == f"/run/secrets/{service['secrets'][0]}"


def test_the_stateful_set_is_restricted() -> None:
    """As the pod security standard "restricted" defines it."""
    pod = read("kubernetes.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    claims = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    assert all((volume.keys() - {"name"}) <= claims for volume in pod["volumes"])
    assert_known({one["name"] for one in container["env"]})
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= WRITTEN_BY_THE_AGENT


def test_cloud_init_knows_its_schema_and_we_know_its_commands() -> None:
    path = EXAMPLES / "cloud-init.yaml"
    done = subprocess.run(["cloud-init", "schema", "--config-file", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (init,) = [command for command in read(path.name)["runcmd"] if command[0] == "tentacle"]
    told = subprocess.run([ROOT / ".venv/bin/tentacle", "init", "--help"], capture_output=True, text=True, check=True)
    for option in init[2:]:
        assert f"--{option.lstrip('-').partition('=')[0]}" in told.stdout, option


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    """A copy of this machine, since it has Ansible."""
    assert not missing_tools()
    with Machine(tmp_path) as made:
        yield made


def test_the_role_makes_a_worker_and_changes_nothing_the_second_time(machine: Machine, deb: Path) -> None:
    server = start_server(machine)
    (machine.root / "tmp/agent.deb").write_bytes(deb.read_bytes())
    play = machine.root / "tmp/play"
    subprocess.run(["cp", "-r", EXAMPLES / "ansible", play], check=True)
    (play / "hosts").write_text("[workers]\nlocalhost ansible_connection=local\n")
    settings = {
        "tentacle_package": "/tmp/agent.deb",
        "tentacle_server": server.rest,
        "tentacle_name": "by-ansible",
        "tentacle_options": [f"--server-comms-port={server.comms_port}"],
    }
    (play / "settings.json").write_text(json.dumps(settings))

    def run() -> str:
        return machine.run(
            *("ansible-playbook", "-i", "/tmp/play/hosts", "/tmp/play/playbook.yaml", "-e", "@/tmp/play/settings.json"),
            environment={"OCTOPUS_API_KEY": server.key, "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1", "PATH": PATH},
        )

    said = run()
    assert re.search(r"localhost .*changed=[23] .*failed=0", said), said
    assert server.key not in said

    def registered() -> str:
        task = server.run_script(server.worker("by-ansible")["Id"], "id -un")
        state: str = server.finished(task)["State"]
        return state

    assert machine.on_the_network(registered) == "Success"
    assert (machine.root / f"proc/{machine.properties('Tentacle', 'MainPID')['MainPID']}/exe").readlink() == Path(
        "/usr/lib/tentacle/bin/python3"
    )
    again = run()
    assert re.search(r"localhost .*changed=0 .*failed=0", again), again


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
