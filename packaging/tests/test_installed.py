"""The life of the deb on a fresh Debian, booted with its systemd in namespaces (tests/e2e/machine.py)."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tree import differences, picture

from tests.e2e.machine import Machine, missing_tools
from tests.e2e.stage import Server
from tests.e2e.test_systemd import Site, start_server, wait_until

pytestmark = pytest.mark.timeout(900)

NAME = "tentacle-agent"
WORKER, UNIT = "On Service", "On-Service"
KEY = "API-0123456789ABCDEF"
WHOLE = ["user tentacle, notify none, watchdog none", *(f"line {n}" for n in range(1, 401))]
FOREIGN = "print('foreign code has run')"
OF_THE_HOST = {"libc", "libm", "libgcc_s", "libpthread", "libdl", "librt", "libutil", "libnss_systemd", "libcap"} | {
    f"ld-linux-{machine}" for machine in ("x86-64", "aarch64")
}
"""The C library, and what it loads itself."""
ROOTS, ITS_OWN = "root:root", "tentacle:tentacle"
MADE = [
    f"755 {ROOTS} /etc/octopus",
    f"700 {ITS_OWN} /etc/octopus/On-Service",
    f"750 {ITS_OWN} /etc/octopus/On-Service/Logs",
    f"600 {ITS_OWN} /etc/octopus/On-Service/Logs/Audit.jsonl",
    f"640 {ITS_OWN} /etc/octopus/On-Service/Logs/OctopusTentacle.txt",
    f"755 {ITS_OWN} /etc/octopus/On-Service/Work",
    f"700 {ITS_OWN} /etc/octopus/On-Service/Work/.https",
    f"700 {ITS_OWN} /etc/octopus/On-Service/Work/.runs",
    f"700 {ITS_OWN} /etc/octopus/On-Service/Work/.spool",
    f"600 {ITS_OWN} /etc/octopus/On-Service/agent.lock",
    f"600 {ITS_OWN} /etc/octopus/On-Service/agent.sock",
    f"644 {ITS_OWN} /etc/octopus/On-Service/livez.heartbeat",
    f"600 {ITS_OWN} /etc/octopus/On-Service/status.json",
    f"600 {ITS_OWN} /etc/octopus/On-Service/tentacle.config",
    f"600 {ITS_OWN} /etc/octopus/On-Service/tentacle.config.key",
    f"600 {ITS_OWN} /etc/octopus/On-Service/tentacle.config.origin",
    f"755 {ROOTS} /etc/octopus/Tentacle",
    f"755 {ROOTS} /etc/octopus/Tentacle/Instances",
    f"644 {ROOTS} /etc/octopus/Tentacle/Instances/on-service.config",
    f"755 {ROOTS} /home/Octopus",
    f"755 {ITS_OWN} /home/Octopus/Applications",
    f"755 {ROOTS} /run/tentacle",
    f"600 {ITS_OWN} /run/tentacle/On-Service.sock",
    f"750 {ITS_OWN} /var/lib/tentacle",
]
"""All that a new instance, its service and a script leave on the disk, but for the books that are kept of scripts."""
SERVER = ("--data=/srv/server", "--port=8065", "--comms-port=8043", "--apiKeyFile=/srv/key")


@pytest.fixture
def machine(debian: Path, deb: Path, tmp_path: Path) -> Iterator[Machine]:
    missing = missing_tools()
    assert not missing, f"to boot systemd, this machine needs {', '.join(missing)}"
    with Machine(tmp_path, debian) as made:
        (made.root / "srv/agent.deb").write_bytes(deb.read_bytes())
        (made.root / "srv/next.deb").write_bytes(next_version(deb, tmp_path / "next").read_bytes())
        (made.root / "srv/key").write_text(KEY)
        yield made


def next_version(deb: Path, work: Path) -> Path:
    """The same package with a higher version, and a file that differs."""
    subprocess.run(["dpkg-deb", "--raw-extract", deb, work], check=True)
    control = work / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: (.*)$", r"Version: \1+next", control.read_text(), flags=re.M))
    with (work / f"usr/share/doc/{NAME}/copyright").open("a") as file:
        file.write("The next version.\n")
    (work / "DEBIAN/md5sums").unlink()
    made = work.with_suffix(".deb")
    build: list[str | Path] = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", work, made]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    return made


def apt(machine: Machine, *arguments: str) -> str:
    return machine.run(
        *("apt-get", "--yes", "--no-install-recommends", "-o", "APT::Sandbox::User=root", *arguments),
        environment={"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
    )


def set_up(machine: Machine) -> Site:
    """Installs the package, and has `init` make a worker of a server on the same machine."""
    apt(machine, "install", "/srv/agent.deb")
    server = start_server(machine, *SERVER)
    began = time.monotonic()
    make_worker(machine, server)
    print(f"init, from nothing to a service that is at work: {time.monotonic() - began:.1f} s")
    return Site(machine, server)


def make_worker(machine: Machine, server: Server) -> None:
    machine.run(
        *("tentacle", "init", "--yes", f"--instance={WORKER}", f"--name={WORKER}", "--mode=polling", "--service"),
        *(f"--server={server.rest}", f"--server-comms-port={server.comms_port}", "--apiKeyFile=/srv/key"),
        "--workerpool=Default Worker Pool",
    )


def stay_of(machine: Machine) -> dict[Path, bytes]:
    """What every instance is known by: its configuration, its key, its name in the register."""
    kept = {path: path.read_bytes() for path in sorted(machine.root.glob("etc/octopus/**/*.config*"))}
    assert len(kept) > 2
    return kept


def owners(machine: Machine, *paths: str) -> list[str]:
    """Mode, owner and path of each, sorted by path."""
    lines = machine.run("stat", "--format=%a %U:%G %n", *paths).splitlines()
    return sorted(lines, key=lambda line: line.split(maxsplit=2)[2])


def test_a_life_from_installation_to_purge(machine: Machine) -> None:
    assert on_the_path(machine, "python3") == "", "the host has no Python"
    fresh = picture(machine.root)
    site = set_up(machine)

    task = site.begin("upgrade", 3)
    shim = scripts_process(machine)
    before = site.main_process
    apt(machine, "install", "/srv/next.deb")
    assert site.main_process not in (0, before), "the new version is at work"
    assert scripts_process(machine) == shim, "the script has not noticed"
    site.go("upgrade")
    assert site.end(task) == ("Failed", WHOLE)
    assert machine.run("dpkg-query", "--show", "--showformat=${Version}", NAME).endswith("+next")
    assert machine.properties(UNIT, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}

    task = site.begin("kill", 0)
    machine.run("kill", "-KILL", str(site.main_process))
    site.go("kill")
    assert site.end(task) == ("Success", WHOLE)

    task = site.begin("hang", 0)
    hang_the_loop(machine, site)
    site.go("hang")
    assert site.end(task) == ("Success", WHOLE)

    machine.reboot()
    site = Site(machine, start_server(machine, *SERVER))
    wait_until(lambda: site.main_process != 0)
    task = site.begin("reboot", 0)
    site.go("reboot")
    assert site.end(task) == ("Success", WHOLE)

    kept = stay_of(machine)
    task = site.begin("removal", 0)
    apt(machine, "remove", NAME)
    assert machine.properties(UNIT, "ActiveState")["ActiveState"] == "inactive"
    assert stay_of(machine) == kept, "the configuration stays"
    assert not (machine.root / "usr/lib/tentacle").exists()
    machine.run("systemctl", "start", UNIT)
    assert machine.properties(UNIT, "ActiveState")["ActiveState"] == "inactive", "a unit without its program is quiet"
    site.go("removal")
    apt(machine, "install", "/srv/next.deb")
    assert site.end(task) == ("Success", WHOLE), "what ran meanwhile is reported by the agent that came back"
    apt(machine, "remove", NAME)
    apt(machine, "purge", NAME)
    assert differences(fresh, picture(machine.root)) == []
    assert "tentacle:" in machine.run("getent", "passwd", "tentacle"), "nobody else gets its number"


HOLDS_A_THREAD = """
import ctypes, os, sys
libc, thread = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
SEIZE, INTERRUPT, ALL_THREADS = 0x4206, 0x4207, 0x40000000
for request in (SEIZE, INTERRUPT):
    if libc.ptrace(request, thread, 0, 0) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(thread, ALL_THREADS)
print("held", flush=True)
os.waitpid(thread, ALL_THREADS)
"""
"""Stops one thread of a process as a debugger does, until the process is killed."""


def hang_the_loop(machine: Machine, site: Site) -> None:
    """Holds the thread that the agent's loop runs in, and no other; returns when systemd has started a new agent."""
    drop_in = machine.root / f"etc/systemd/system/{UNIT}.service.d/watchdog.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nWatchdogSec=4\nTimeoutAbortSec=1\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)
    hung = site.main_process
    # The python of this machine, among the processes of the other.
    entered = ("nsenter", f"--target={machine.root.parent.name}", "--pid")
    holding = subprocess.Popen(
        [*entered, sys.executable, "-c", HOLDS_A_THREAD, str(hung)], stdout=subprocess.PIPE, text=True
    )
    with holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "held\n"
        wait_until(lambda: site.main_process not in (0, hung))
    assert "Watchdog timeout" in machine.journal(UNIT)
    drop_in.unlink()
    drop_in.parent.rmdir()
    machine.run("systemctl", "daemon-reload")


def test_a_disk_that_is_full_costs_no_result_and_the_agent_heals(machine: Machine) -> None:
    place = machine.root / "etc/octopus"
    place.mkdir()
    machine.run("mount", "-t", "tmpfs", "-o", "size=700m,mode=755", "tmpfs", "/etc/octopus")
    site = set_up(machine)
    task = site.begin("full", 3)
    assert "No space left on device" in machine.run("sh", "-c", "cat /dev/zero >/etc/octopus/ballast", expect=None)
    status = ("tentacle", "status", f"--instance={WORKER}")
    assert "problem  the disk has 0 B free" in machine.run(*status, expect=3)
    assert site.output("echo line new") == [], "none is started"
    site.go("full")
    state, lines = site.end(task)
    assert (state, lines[:201]) == ("Failed", WHOLE[:201]), "the exit code is there, and what was written before"
    machine.run("rm", "/etc/octopus/ballast")
    assert site.output("echo line new") == ["line new"]
    machine.run(*status)
    assert machine.properties(UNIT, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


def test_modes_owners_and_nothing_of_the_host_s_python(machine: Machine) -> None:
    site = set_up(machine)
    listed = machine.run("dpkg", "--listfiles", NAME).split("\n")[1:]
    found = owners(machine, *filter(None, listed))
    odd = [line for line in found if line.split()[:2] not in (["755", ROOTS], ["644", ROOTS], ["777", ROOTS])]
    assert (odd, len(found) > 1000) == ([], True)
    programs = machine.run("find", "/usr/lib/tentacle", "-type", "f", "-perm", "/111", "-printf", "%P\n").split()
    assert sorted(programs) == ["bin/python3", "bin/tentacle"]
    links = machine.run("find", "/usr/lib/tentacle", "/usr/bin/tentacle", "/usr/bin/Tentacle", "-xtype", "l")
    assert links == "", "none leads nowhere"
    assert site.output("echo line 1") == ["line 1"]
    # Nothing is left of its workspace.
    work = machine.root / f"etc/octopus/{UNIT}/Work"
    wait_until(lambda: not [path for path in work.iterdir() if not path.name.startswith(".") or "trash" in path.name])
    made = ("/etc/octopus", "/var/lib/tentacle", "/home/Octopus", "/run/tentacle")
    lines = owners(machine, *machine.run("find", *made).split("\n")[:-1])
    of_runs = [line for line in lines if "/Work/.runs/" in line]
    assert [line for line in lines if line not in of_runs] == MADE
    assert {line.rpartition(" ")[0] for line in of_runs} == {f"600 {ITS_OWN}"}
    units = sorted(str(path) for path in (machine.root / "etc/systemd/system").glob(f"{UNIT}*"))
    of_the_machine = [f"/{Path(unit).relative_to(machine.root)}" for unit in units]
    assert owners(machine, *of_the_machine) == [f"644 {ROOTS} {unit}" for unit in of_the_machine]
    assert len(units) == 3

    trap = machine.root / "tmp/trap"
    trap.mkdir()
    for module in ("sitecustomize", "click", "ssl", "tentacle", "re"):
        (trap / f"{module}.py").write_text(FOREIGN)
    for library in ("libssl.so.3", "libcrypto.so.3", "libz.so.1"):
        (trap / library).write_text("no library")
    hostile = dict.fromkeys(("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "HOME"), "/tmp/trap")
    said = machine.run("tentacle", "list-instances", "--format=json", environment=hostile)
    assert WORKER in said
    assert "foreign" not in said
    drop_in = machine.root / f"etc/systemd/system/{UNIT}.service.d/hostile.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text("[Service]\n" + "".join(f"Environment={name}={value}\n" for name, value in hostile.items()))
    site.service("--restart")
    task = site.begin("hostile", 0)
    site.go("hostile")
    assert site.end(task)[0] == "Success"
    maps = (machine.root / f"proc/{site.main_process}/maps").read_text()
    loaded = {line.split()[-1] for line in maps.splitlines() if "/" in line and ".so" in line}
    foreign = {Path(path).name.partition(".")[0] for path in loaded if not path.startswith("/usr/lib/tentacle/")}
    assert foreign <= OF_THE_HOST, loaded

    site.service("--reconfigure", "--start", "--key=root")
    assert site.output("echo line 1") == ["line 1"]
    (kept,) = (machine.root / "etc/credstore").iterdir()
    other = kept.with_name("tentacle-of-another-12345678.key")
    other.touch()
    paths = ("/etc/credstore", f"/etc/credstore/{kept.name}")
    assert owners(machine, *paths) == [f"700 root:root {paths[0]}", f"600 root:root {paths[1]}"]
    apt(machine, "purge", NAME)
    assert list(other.parent.iterdir()) == [other], "the key goes with its instance"


def on_the_path(machine: Machine, program: str) -> str:
    return machine.run("sh", "-c", f"command -v {program} || true").strip()


def scripts_process(machine: Machine) -> str:
    """The shell of the script that runs."""
    return machine.run("pgrep", "-f", "-u", "tentacle", "Bootstrap.sh").split()[0]
