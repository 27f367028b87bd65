"""The examples: read by the tools that they are for, where these can be had, and in any case true."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from builder import image
from conftest import ROOT

from tests.e2e.machine import Machine, missing_tools
from tests.e2e.test_systemd import start_server

pytestmark = pytest.mark.timeout(900)
EXAMPLES = ROOT / "packaging/examples"
ENTRYPOINT = (ROOT / "packaging/image/entrypoint").read_text()
MAY_BE_MOUNTED = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
}
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


@pytest.mark.parametrize("version", ["1.25", "1.37"])
def test_kubernetes_knows_each_field_of_the_stateful_set(version: str) -> None:
    program = Path(sys.executable).with_name("kubernetes-validate")
    command: list[str | Path] = [program, "--strict", f"--kubernetes-version={version}", EXAMPLES / "kubernetes.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stateful_set_is_restricted() -> None:
    """Each field that the pod security standard "restricted" looks at, and those of the "baseline" below it."""
    pod = read("kubernetes.yaml")["spec"]["template"]["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "initContainers", "ephemeralContainers"} & pod.keys()
    for volume in pod["volumes"]:
        (kind,) = volume.keys() - {"name"}
        assert kind in MAY_BE_MOUNTED
    of_the_pod = pod["securityContext"]
    assert of_the_pod["runAsNonRoot"] is True
    assert of_the_pod["runAsUser"] == of_the_pod["runAsGroup"] == of_the_pod["fsGroup"] == image.USER
    assert of_the_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert of_the_pod.keys() <= {"runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "seccompProfile"}
    (container,) = pod["containers"]
    # Nothing else, such as `privileged`, `procMount` or another user than the pod's.
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"ports", "lifecycle"} & container.keys(), "no port of the host, and no command of its own"
    assert pod["automountServiceAccountToken"] is False
    assert_known({one["name"] for one in container["env"]})
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= WRITTEN_BY_THE_AGENT
    probe = container["livenessProbe"]
    assert ["CMD", *probe["exec"]["command"]] == image.CONFIG["Healthcheck"]["Test"]


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
