"""docs/containers.md and the examples that it names, run by a real Docker engine and its Compose on a booted Debian.

Only this differs: the address and ports of the server, and that health is asked for more often.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, only
from fresh_debian import debian_root
from test_installed import KEY, SERVER, apt

from tests.e2e.machine import Machine, missing_tools
from tests.e2e.pages import SERVER as OCTOPUS
from tests.e2e.pages import sections_of, text_of
from tests.e2e.stage import Process, Server
from tests.e2e.test_systemd import start_server, wait_until

pytestmark = pytest.mark.timeout(900)
PAGE = "docs/containers.md"
SECTIONS = sections_of(PAGE)
STAYS, PASSES = "A worker that stays", "A worker for as long as it runs"
EXAMPLES = ROOT / "packaging/examples"
BRIDGE = "172.17.0.1"
"""The host, as containers reach it."""
DAEMON = {"data-root": "/tmp/docker", "iptables": False}
"""The place is on the machine's own memory; where the kernel has no tables, containers reach the host all the same."""

UNTIL_TOLD = "touch /tmp/began; until test -e /tmp/go; do sleep 0.05; done"


def with_this_engine(root: Path) -> None:
    (root / "etc/docker").mkdir(exist_ok=True)
    (root / "etc/docker/daemon.json").write_text(json.dumps(DAEMON))


@dataclass
class Host:
    """A booted Debian with Docker, the image, and an Octopus Server; the current directory has the page's files."""

    machine: Machine
    server: Server

    def paste(self, block: str) -> str:
        return self.machine.run("bash", "-euo", "pipefail", "-c", f"cd /root; {self.of_this_place(block)}")

    def of_this_place(self, text: str) -> str:
        ours = {
            OCTOPUS: self.server.rest.rstrip("/"),
            "10943": str(self.server.comms_port),
            "docker run": "docker run --health-interval=1s",
        }
        for theirs, mine in ours.items():
            text = text.replace(theirs, mine)
        return text

    def docker(self, *arguments: str) -> str:
        return self.machine.run("docker", *arguments).strip()

    def workers(self) -> list[Any]:
        found: list[Any] = self.machine.on_the_network(lambda: self.server.get("api/Spaces-1/workers/all"))
        return found

    def run_script(self, worker: Any, body: str) -> tuple[str, str]:
        def run() -> tuple[str, str]:
            task = self.server.run_script(worker["Id"], body)
            state: str = self.server.finished(task)["State"]
            return state, self.server.request("GET", f"api/tasks/{task}/raw").decode()

        return self.machine.on_the_network(run)

    def works(self, name: str) -> Any:
        """The worker of that name, which has run a script."""
        wait_until(lambda: name in [worker["Name"] for worker in self.workers()])
        (worker,) = [worker for worker in self.workers() if worker["Name"] == name]
        state, log = self.run_script(worker, "id -u; env")
        assert state == "Success", log
        assert KEY not in log
        return worker


@pytest.fixture(scope="module")
def host(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    assert not missing_tools()
    packages = ("docker.io", "docker-compose", "skopeo", "netavark", "ca-certificates", "iproute2")
    root = debian_root("docker", *packages, complete=with_this_engine)
    with Machine(tmp_path_factory.mktemp("machine"), root) as machine:
        home = machine.root / "root"
        (home / "dist").mkdir()
        for source, place in ((deb, "agent.deb"), (only("*_amd64.oci.tar"), f"dist/{only('*_amd64.oci.tar').name}")):
            subprocess.run(["cp", source, home / place], check=True)
        (home / "octopus.key").write_text(KEY)
        (machine.root / "srv/key").write_text(KEY)
        apt(machine, "install", "/root/agent.deb")
        wait_until(lambda: BRIDGE in machine.run("ip", "address", "show"))
        made = Host(machine, start_server(machine, *SERVER, f"--host={BRIDGE}"))
        for block in SECTIONS["Containers"]:
            made.paste(block)
        yield made


def test_every_block_is_run_here_and_every_variable_told() -> None:
    assert {name: len(blocks) for name, blocks in SECTIONS.items()} == {"Containers": 1, STAYS: 2, PASSES: 1}
    entrypoint = (ROOT / "packaging/image/entrypoint").read_text(encoding="utf-8")
    read = set(re.findall(r"\$\{([A-Z]\w+):-", entrypoint)) | set(re.findall(r"^ *secret (\w+)", entrypoint, re.M))
    assert len(read) > 15
    text = text_of(PAGE).partition("## Variables of the image")[2]
    told = {name for row in re.findall(r"^\| (`.*?) \|", text, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert told == read


def test_a_worker_that_stays_is_the_same_one_in_its_next_container(host: Host) -> None:
    readable, run = SECTIONS[STAYS]
    (host.machine.root / "root/octopus.key").chmod(0o600)
    host.paste(readable)
    host.paste(run)
    before = host.works("worker-1")
    wait_until(lambda: host.docker("inspect", "--format={{.State.Health.Status}}", "worker-1") == "healthy")
    assert host.docker("top", "worker-1", "-o", "pid,uid").split()[3] == "10001"
    host.docker("stop", "worker-1")
    assert host.docker("inspect", "--format={{.State.ExitCode}}", "worker-1") == "0", host.docker("logs", "worker-1")
    assert KEY not in host.docker("logs", "worker-1")
    host.docker("rm", "worker-1")
    host.paste(run)
    wait_until(lambda: "connections are up" in host.docker("logs", "worker-1"))
    after = host.works("worker-1")
    assert (after["Id"], after["Thumbprint"]) == (before["Id"], before["Thumbprint"])
    host.docker("rm", "--force", "--volumes", "worker-1")
    delete_all(host)


def test_a_worker_for_as_long_as_it_runs(host: Host) -> None:
    [run] = SECTIONS[PASSES]
    process: Process = host.machine.start("bash", "-c", host.of_this_place(run))
    process.wait_for("connections are up")
    [worker] = host.workers()
    host.works(worker["Name"])
    container = host.docker("ps", "--quiet")
    task = host.machine.on_the_network(lambda: host.server.run_script(worker["Id"], UNTIL_TOLD))
    wait_until(lambda: "began" in host.docker("exec", container, "ls", "/tmp"))
    stopping = host.machine.start("docker", "stop", container)
    process.wait_for("Waiting up to 10 seconds for 1 running script(s)")
    host.docker("exec", container, "touch", "/tmp/go")
    assert (stopping.wait(), process.wait()) == (0, 0)
    ended = host.machine.on_the_network(lambda: host.server.finished(task))
    assert ended["State"] == "Success", "it was waited for"
    assert host.workers() == []


def test_compose_starts_three_that_leave_nothing_behind(host: Host) -> None:
    project = host.machine.root / "root/project"
    project.mkdir()
    (project / "compose.yaml").write_text(host.of_this_place((EXAMPLES / "compose.yaml").read_text()))
    (project / "api-key").write_text(KEY)
    host.machine.run("chown", "10001", "/root/project/api-key")
    (project / "api-key").chmod(0o400)
    the_server_has(host, "Containers")
    compose = ("docker-compose", "--project-directory=/root/project", "--file=/root/project/compose.yaml")
    host.machine.run(*compose, "config", "--quiet")
    up = re.findall(r"docker compose (up -d)$", (EXAMPLES / "compose.yaml").read_text(), re.M)
    host.machine.run(*compose, *up[0].split())
    wait_until(lambda: len(host.workers()) == 3)
    for worker in host.workers():
        host.works(worker["Name"])
    host.machine.run(*compose, "down")
    assert host.workers() == []
    assert host.docker("ps", "--all", "--quiet") == ""


def test_a_pod_of_the_stateful_set_works_as_a_kubelet_would_start_it(host: Host) -> None:
    """Without a Kubernetes: its security context, mounts, variables and probe, by the engine that is there."""
    pod = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    the_server_has(host, container_variables(container)["TargetWorkerPool"])
    user, group = pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]
    options = [f"--user={user}:{pod['securityContext']['runAsGroup']}", f"--group-add={group}"]
    context = container["securityContext"]
    options += [f"--cap-drop={name}" for name in context["capabilities"]["drop"]]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    options += ["--read-only", "--security-opt=no-new-privileges:true"]
    options += [f"--env={host.of_this_place(f'{n}={v}')}" for n, v in container_variables(container).items()]
    for mount in container["volumeMounts"]:
        # A kubelet makes these as root, and gives them to the group: a directory of a volume, and the keys of a secret.
        place = f"/srv/volumes/{mount['name']}/{mount.get('subPath', '')}"
        host.machine.run("install", "--directory", "--mode=2775", f"--group={group}", place)
        options.append(f"--volume={place}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}")
    (host.machine.root / "srv/volumes/key/api-key").write_text(KEY)
    host.machine.run("chown", f"0:{group}", "/srv/volumes/key/api-key")
    host.machine.run("chmod", "640", "/srv/volumes/key/api-key")
    host.docker("run", "--detach", "--name=tentacle-0", *options, container["image"])
    wait_until(lambda: "connections are up" in host.docker("logs", "tentacle-0"))
    host.works("tentacle-0")
    host.docker("exec", "tentacle-0", *container["livenessProbe"]["exec"]["command"])
    host.docker("stop", "tentacle-0")
    assert host.docker("inspect", "--format={{.State.ExitCode}}", "tentacle-0") == "0"
    host.docker("rm", "tentacle-0")
    delete_all(host)


def container_variables(container: Any) -> dict[str, str]:
    return {one["name"]: one.get("value", "tentacle-0") for one in container["env"]}


def the_server_has(host: Host, pool: str) -> None:
    body = {"Name": pool, "WorkerPoolType": "StaticWorkerPool"}
    host.machine.on_the_network(lambda: host.server.request("POST", "api/Spaces-1/workerpools", body))


def delete_all(host: Host) -> None:
    for worker in host.workers():
        path = worker["Links"]["Self"].removeprefix("/")
        host.machine.on_the_network(lambda path=path: host.server.request("DELETE", path))  # type: ignore[misc]
