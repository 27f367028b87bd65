"""The agent and what starts its scripts as two units, under a real systemd: what each may do, and survives.

What takes longer is in `packaging/tests/test_two_units.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.e2e.machine import Machine
from tests.e2e.test_systemd import UNIT, Site, set_up_polling, wait_until

LAUNCHER = f"{UNIT}@scripts"
MOST_EXPOSED = 2.0
WHOLE = ["user tentacle, notify none, watchdog none", *(f"line {n}" for n in range(1, 401))]
EVERYTHING = """\
node -e 'let sum = 0; for (let i = 0; i < 3e6; i++) sum += i % 7; console.log("line", sum)'
echo "line $(sudo -n id -u)"
mkdir -p made/DEBIAN
printf '%s: %s\\n' Package of-a-script Version 1 Architecture all Maintainer me Description x >made/DEBIAN/control
dpkg-deb --build made >&2 && sudo -n dpkg --install made.deb >&2
dpkg-query --show --showformat='line ${Package}\\n' of-a-script
sudo -n mount -t tmpfs of-a-script /mnt && echo "line $(stat --file-system --format=%T /mnt)"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One machine for all: each test leaves the service at work."""
    with Machine(tmp_path_factory.mktemp("machine")) as machine:
        made = set_up_polling(machine)
        made.service("--install", "--start")
        machine.on_the_network(int)
        yield made


def main_process(site: Site, unit: str) -> int:
    return int(site.machine.properties(f"{unit}.service", "MainPID")["MainPID"])


def exposure(machine: Machine, unit: str) -> float:
    """How much systemd thinks that a unit is exposed, from 0 to 10."""
    said = machine.run("systemd-analyze", "security", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None, said
    return float(found[1])


def test_the_agent_is_confined_and_its_scripts_are_not(site: Site) -> None:
    agent, scripts = exposure(site.machine, f"{UNIT}.service"), exposure(site.machine, f"{LAUNCHER}.service")
    print(f"exposure: agent {agent}, what starts scripts {scripts}")
    assert agent <= MOST_EXPOSED
    assert MOST_EXPOSED < scripts < 9.5, "what starts scripts has the rights of its user, and no more"
    confined = (site.machine.root / f"proc/{main_process(site, UNIT)}/status").read_text()
    free = (site.machine.root / f"proc/{main_process(site, LAUNCHER)}/status").read_text()
    for line in ("NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapBnd:\t0000000000000000\n"):
        assert line in confined
        assert line not in free
    socket = site.machine.root / f"run/tentacle/{UNIT}.sock"
    assert (socket.stat().st_mode & 0o777, socket.stat().st_uid) == (
        0o600,
        (site.machine.root / "var/lib/tentacle").stat().st_uid,
    )
    status = json.loads(site.machine.run("tentacle", "status", "--format=json", expect=None))
    assert status["Agent"]["ScriptLauncherProcessId"] == main_process(site, LAUNCHER)
    limits = (site.machine.root / f"proc/{main_process(site, UNIT)}/limits").read_text()
    assert int(limits.partition("Max open files")[2].split()[0]) > 1024, "it may raise its own limit"
    said = site.machine.run("systemd-analyze", "verify", *(f"/etc/systemd/system/{u}" for u in site.unit_files))
    assert said.strip() == ""


def test_a_script_may_compile_become_root_install_and_mount(site: Site) -> None:
    (site.machine.root / "etc/sudoers.d/worker").write_text("tentacle ALL=(root) NOPASSWD: ALL\n")
    assert site.output(EVERYTHING) == ["line 8999994", "line 0", "line of-a-script", "line tmpfs"]
    assert "of-a-script /mnt tmpfs" in site.machine.run("cat", "/proc/mounts"), "mounts are the machine's"
    site.machine.run("umount", "/mnt")


def test_no_script_is_lost_however_either_ends(site: Site) -> None:
    task = site.begin("launcher-killed", 3)
    killed = main_process(site, LAUNCHER)
    site.machine.run("kill", "-KILL", str(killed))
    wait_until(lambda: main_process(site, LAUNCHER) not in (0, killed))
    second = site.begin("after", 0)
    site.machine.run("systemctl", "restart", f"{LAUNCHER}.service")
    third = site.begin("third", 0)
    agent = main_process(site, UNIT)
    site.machine.run("kill", "-KILL", str(agent))
    wait_until(lambda: main_process(site, UNIT) not in (0, agent))
    for mark in ("launcher-killed", "after", "third"):
        site.go(mark)
    assert site.end(task) == ("Failed", WHOLE)
    assert site.end(second) == ("Success", WHOLE)
    assert site.end(third) == ("Success", WHOLE)
