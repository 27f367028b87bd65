"""docs/install.md, as it stands there: packages on fresh hosts, a pool of two, pip and pipx.

Only this differs: names of the server and of what is not there to be fetched, and that `ssh` reaches a machine of the
test by its namespaces.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import ROOT
from test_installed import KEY, NAME, SERVER, next_version
from test_rpm import Installed
from tree import differences, picture

from tentacle import __version__
from tests.e2e.machine import Machine, missing_tools
from tests.e2e.pages import SERVER as OCTOPUS
from tests.e2e.pages import sections_of
from tests.e2e.stage import Server
from tests.e2e.test_systemd import COUNTING, start_server, wait_until
from tests.patience import PATIENCE

pytestmark = pytest.mark.timeout(900)

INSTALL = sections_of("docs/install.md")
POOL = ("worker-1", "worker-2")
LINES = [f"line {n}" for n in range(1, 401)]
APT = 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\nAPT::Sandbox::User "root";\n'


def test_every_section_is_run_here() -> None:
    assert list(INSTALL) == [
        *("deb", "rpm", "pip", "pipx", "Upgrade", "A pool, one worker after the other", "Remove"),
    ]
    text = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"0\.\d+\.\d+", text)) == {__version__, following(__version__)}


def following(version: str) -> str:
    head, _, last = version.rpartition(".")
    return f"{head}.{int(last) + 1}"


def as_root(machine: Machine, block: str, replaced: Mapping[str, str] | None = None) -> str:
    for theirs, ours in (replaced or {}).items():
        block = block.replace(theirs, ours)
    environment = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    return machine.run("bash", "-euo", "pipefail", "-c", f"cd /root; {block}", environment=environment)


def with_packages(machine: Machine, deb: Path, following_deb: Path) -> None:
    """A fresh host, on which both packages lie, under the names of the page."""
    (machine.root / "etc/apt/apt.conf.d/90test").write_text(APT)
    home = machine.root / "root"
    (home / f"{NAME}_{__version__}_amd64.deb").write_bytes(deb.read_bytes())
    (home / f"{NAME}_{following(__version__)}_amd64.deb").write_bytes(following_deb.read_bytes())
    (home / "octopus.key").write_text(KEY)
    (machine.root / "srv/key").write_text(KEY)


@pytest.fixture
def following_deb(deb: Path, tmp_path: Path) -> Path:
    return next_version(deb, tmp_path / "next")


@pytest.fixture
def host(debian: Path, deb: Path, following_deb: Path, tmp_path: Path) -> Iterator[Machine]:
    assert not missing_tools()
    with Machine(tmp_path, debian) as made:
        with_packages(made, deb, following_deb)
        yield made


def make_worker(machine: Machine, server: Server, name: str) -> None:
    machine.run(
        *("tentacle", "init", "--yes", "--mode=polling", "--service", f"--name={name}", f"--server={server.rest}"),
        *(f"--server-comms-port={server.comms_port}", "--apiKeyFile=/srv/key", "--workerpool=Default Worker Pool"),
    )


def version_of(machine: Machine) -> str:
    return machine.run("dpkg-query", "--show", "--showformat=${Version}", NAME)


def test_a_deb_comes_is_upgraded_and_goes_without_a_trace(host: Machine) -> None:
    fresh = picture(host.root)
    assert as_root(host, INSTALL["deb"][0]).endswith(__version__)
    server = start_server(host, *SERVER)
    make_worker(host, server, "one")
    as_root(host, INSTALL["Upgrade"][0])
    assert version_of(host).endswith("+next")
    off_the_server, purge, _, _, rest = INSTALL["Remove"]
    as_root(host, off_the_server, {OCTOPUS: server.rest.rstrip("/")})
    assert host.on_the_network(lambda: server.get("api/Spaces-1/workers/all")) == []
    as_root(host, purge)
    as_root(host, rest)
    assert differences(fresh, picture(host.root)) == []


@pytest.fixture
def pool(debian: Path, deb: Path, following_deb: Path, tmp_path: Path) -> Iterator[dict[str, Machine]]:
    """Two hosts with the package on one network."""
    assert not missing_tools()
    with ExitStack() as stack:
        machines = {}
        for name in POOL:
            (tmp_path / name).mkdir()
            machines[name] = stack.enter_context(Machine(tmp_path / name, debian))
            with_packages(machines[name], deb, following_deb)
            as_root(machines[name], INSTALL["deb"][0])
        connect(*machines.values())
        yield machines


def connect(one: Machine, two: Machine) -> None:
    """A cable between them: 10.99.0.1 and 10.99.0.2."""
    first, second = (machine.root.parent.name for machine in (one, two))
    cable = ("ip", "link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
    subprocess.run(cable, check=True)
    for number, process in enumerate((first, second), start=1):
        for what in (f"addr add 10.99.0.{number}/24 dev cable", "link set cable up"):
            subprocess.run(["nsenter", f"--target={process}", "--net", "ip", *what.split()], check=True)


def reached_by_ssh(machines: Mapping[str, Machine], directory: Path) -> dict[str, str]:
    """An environment in which `ssh` and `scp` reach the machines by their names."""
    directory.mkdir()
    enter = "\n".join(f"root@{n}) enter=({shlex.join(m.command('bash', '-c'))}) ;;" for n, m in machines.items())
    roots = "\n".join(f"root@{n}:) root={m.root} ;;" for n, m in machines.items())
    programs = {
        "ssh": f'case $1 in {enter} esac\nexec "${{enter[@]}}" "cd /root; $2" </dev/null',
        "scp": f'case $2 in {roots} esac\nexec cp "$1" "$root/root/"',
    }
    for name, body in programs.items():
        (directory / name).write_text(f"#!/bin/bash\n{body}\n")
        (directory / name).chmod(0o755)
    return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}


class Pool:
    """Two workers of one server, and scripts that run on them."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self.machines = machines
        self._first = machines[POOL[0]]
        self.server = start_server(self._first, *SERVER, "--host=10.99.0.1")
        for name, machine in machines.items():
            make_worker(machine, self.server, name)

    def begin(self, worker: str) -> str:
        """Starts a script that has written half of its lines when this returns; its task."""
        body = COUNTING.format(mark="mark", code=0)
        task = self._first.on_the_network(lambda: self.server.run_script(self.server.worker(worker)["Id"], body))
        wait_until((self.machines[worker].root / "tmp/mark.begun").exists)
        return task

    def end(self, worker: str, task: str) -> list[str]:
        """Lets the script go on, and returns its lines once its task has ended well."""
        (self.machines[worker].root / "tmp/mark.go").touch()
        state = self._first.on_the_network(lambda: self.server.finished(task))["State"]
        assert state == "Success"
        log = self._first.on_the_network(lambda: self.server.request("GET", f"api/tasks/{task}/raw")).decode()
        for mark in ("begun", "go"):
            (self.machines[worker].root / f"tmp/mark.{mark}").unlink()
        return [line for one in log.splitlines() if (line := one.rpartition(" | ")[2].strip()).startswith("line ")]

    def is_disabled(self, worker: str) -> bool:
        return bool(self._first.on_the_network(lambda: self.server.worker(worker))["IsDisabled"])


def test_a_pool_is_upgraded_one_after_the_other(pool: dict[str, Machine], following_deb: Path, tmp_path: Path) -> None:
    upgrade, drain = INSTALL["A pool, one worker after the other"]
    workers, here = Pool(pool), tmp_path / "here"
    here.mkdir()
    package = here / f"{NAME}_{following(__version__)}_amd64.deb"
    environment = reached_by_ssh(pool, tmp_path / "bin")

    def paste(block: str) -> subprocess.Popen[str]:
        block = block.replace(OCTOPUS, workers.server.rest.rstrip("/"))
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=here,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    package.write_bytes(b"no package")
    before = {name: version_of(machine) for name, machine in pool.items()}
    said, _ = paste(upgrade).communicate(timeout=PATIENCE)
    assert {name: version_of(machine) for name, machine in pool.items()} == before, "it stops at the first that fails"
    assert said.count("no package") <= 1

    package.write_bytes(following_deb.read_bytes())
    tasks = {name: workers.begin(name) for name in POOL}
    running = paste(upgrade)
    said, _ = running.communicate(timeout=PATIENCE * 2)
    assert running.returncode == 0, said
    assert said.count("● Tentacle is running\n") == len(POOL)
    assert all(version_of(machine).endswith("+next") for machine in pool.values())
    for name, task in tasks.items():
        assert workers.end(name, task) == LINES, "the script has run all the way through"

    task = workers.begin(POOL[0])
    running = paste(drain)
    wait_until(lambda: workers.is_disabled(POOL[0]))
    assert not workers.is_disabled(POOL[1]), "the other one works meanwhile"
    other = workers.begin(POOL[1])
    assert workers.end(POOL[1], other) == LINES
    assert workers.end(POOL[0], task) == LINES, "it is waited for"
    said, _ = running.communicate(timeout=PATIENCE * 2)
    assert running.returncode == 0, said
    assert not any(workers.is_disabled(name) for name in POOL)


def test_an_rpm_comes_is_upgraded_and_goes(rpm: Path, tmp_path: Path) -> None:
    assert not missing_tools()
    with Installed(tmp_path) as machine:
        machine.run("rpm", "--initdb")
        for version in (__version__, following(__version__)):
            (machine.root / f"root/{NAME}-{version}-1.x86_64.rpm").write_bytes(rpm.read_bytes())
        # What it depends on is not in rpm's database here, and the newer one is the same.
        here = {"--install": "--install --nodeps", "--upgrade": "--upgrade --force --nodeps"}
        assert as_root(machine, INSTALL["rpm"][0], here).endswith(__version__)
        as_root(machine, INSTALL["Upgrade"][1], here)
        as_root(machine, INSTALL["Remove"][2])
        assert not (machine.root / "usr/lib/tentacle").exists()


def paste_here(block: str, home: Path, replaced: Mapping[str, str]) -> str:
    """Runs a block in the checkout, as a user whose home is empty."""
    for theirs, ours in replaced.items():
        block = block.replace(theirs, ours)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PIPX_"))}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=ROOT,
        env={**kept, "HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block}{done.stdout}{done.stderr}"
    return done.stdout


def test_pip_with_the_lock_file(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    here = {"/opt/tentacle": str(tmp_path / "opt"), "/usr/local/bin": str(tmp_path / "bin")}
    assert paste_here(INSTALL["pip"][0], tmp_path, here).endswith(__version__)
    # An upgrade is the same again.
    assert paste_here(INSTALL["pip"][0], tmp_path, {**here, "--no-deps": "--no-deps --force-reinstall"})
    paste_here(INSTALL["Remove"][3], tmp_path, here)
    assert not (tmp_path / "opt").exists()
    assert not list((tmp_path / "bin").iterdir())


def test_pipx_takes_the_same_versions(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "tool"], check=True)
    subprocess.run([tmp_path / "tool/bin/pip", "install", "--quiet", "pipx"], check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pipx").symlink_to(tmp_path / "tool/bin/pipx")
    here = {"constraints.txt": str(tmp_path / "constraints.txt"), f"$PWD/{tmp_path}": str(tmp_path)}
    said = paste_here(INSTALL["pipx"][0], tmp_path, here)
    assert said.endswith(__version__)
    (python,) = tmp_path.glob(".local/**/venvs/tentacle/bin/python")
    listed = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    locked = versions((ROOT / "packaging/requirements.lock").read_text(encoding="utf-8"))
    assert len(versions(listed)) > 10
    assert versions(listed).items() <= locked.items()


def versions(text: str) -> dict[str, str]:
    """By the name of the package, as an index compares it."""
    found = re.findall(r"^([\w.-]+)==([\w.]+)", text, re.M)
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in found}
