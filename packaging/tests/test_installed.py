"""The life of the deb on a fresh Debian, booted with its systemd in namespaces (tests/e2e/machine.py)."""

from __future__ import annotations

import re
import subprocess
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
FOREIGN = "print('foreign code has run')"
OF_THE_HOST = {"libc", "libm", "libgcc_s", "libpthread", "libdl", "librt", "libutil", "libnss_systemd", "libcap"} | {
    f"ld-linux-{machine}" for machine in ("x86-64", "aarch64")
}
"""The C library, and what it loads itself."""
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
    return machine.run("stat", "--format=%a %U:%G", *paths).splitlines()


def test_a_life_from_installation_to_purge(machine: Machine, deb: Path) -> None:
    assert found(machine, "python3") == "", "the host has no Python"
    fresh = picture(machine.root)
    site = set_up(machine)
    whole = ["user tentacle, notify none, watchdog none", *(f"line {n}" for n in range(1, 401))]
    print(f"deb: {deb.stat().st_size / 1e6:.1f} MB; installed: {installed_size(machine):.1f} MB")
    print(f"start to ready: {start_to_ready(machine):.2f} s; idle: {proportional_set(machine, site):.1f} MiB PSS")

    task = site.begin("upgrade", 3)
    shim = scripts_process(machine)
    before = site.main_process
    apt(machine, "install", "/srv/next.deb")
    assert site.main_process not in (0, before), "the new version is at work"
    assert scripts_process(machine) == shim, "the script has not noticed"
    site.go("upgrade")
    assert site.end(task) == ("Failed", whole)
    assert machine.run("dpkg-query", "--show", "--showformat=${Version}", NAME).endswith("+next")
    assert machine.properties(UNIT, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}

    task = site.begin("kill", 0)
    machine.run("kill", "-KILL", str(site.main_process))
    site.go("kill")
    assert site.end(task) == ("Success", whole)

    machine.reboot()
    site = Site(machine, start_server(machine, *SERVER))
    wait_until(lambda: site.main_process != 0)
    task = site.begin("reboot", 0)
    site.go("reboot")
    assert site.end(task) == ("Success", whole)

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
    assert site.end(task) == ("Success", whole), "what ran meanwhile is reported by the agent that came back"
    apt(machine, "remove", NAME)
    apt(machine, "purge", NAME)
    assert differences(fresh, picture(machine.root)) == []
    assert "tentacle:" in machine.run("getent", "passwd", "tentacle"), "nobody else gets its number"


def test_modes_owners_and_nothing_of_the_host_s_python(machine: Machine) -> None:
    site = set_up(machine)
    assert owners(machine, "/usr/bin/tentacle", "/usr/bin/Tentacle") == ["777 root:root"] * 2
    assert owners(machine, "/usr/lib/tentacle", "/usr/lib/tentacle/bin/python3") == ["755 root:root"] * 2
    odd = ("(", "!", "-user", "root", "-o", "-perm", "/7022", ")", "!", "-type", "l")
    assert machine.run("find", "/usr/lib/tentacle", *odd) == ""
    assert owners(machine, "/var/lib/tentacle") == ["750 tentacle:tentacle"]
    folder = f"/etc/octopus/{UNIT}"
    assert owners(machine, f"{folder}/Work", f"{folder}/Logs") == ["755 tentacle:tentacle", "750 tentacle:tentacle"]
    (key,) = [str(p) for p in (machine.root / folder.lstrip("/")).glob("*.key")]
    assert owners(machine, f"{folder}/{Path(key).name}") == ["600 tentacle:tentacle"]
    units = (f"/etc/systemd/system/{UNIT}{rest}" for rest in (".service", "@scripts.service", "@scripts.socket"))
    assert owners(machine, *units) == ["644 root:root"] * 3

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


def found(machine: Machine, program: str) -> str:
    return machine.run("sh", "-c", f"command -v {program} || true").strip()


def installed_size(machine: Machine) -> float:
    return int(machine.run("du", "-sk", "/usr/lib/tentacle").split()[0]) / 1000


def start_to_ready(machine: Machine) -> float:
    machine.run("systemctl", "stop", UNIT)
    began = time.monotonic()
    machine.run("systemctl", "start", UNIT)
    return time.monotonic() - began


def proportional_set(machine: Machine, site: Site) -> float:
    """Of the agent and what starts its scripts, in MiB."""
    wait_until(lambda: " up;" in machine.properties(UNIT, "StatusText")["StatusText"])
    units = (f"{UNIT}.service", f"{UNIT}@scripts.service")
    shown = machine.run("systemctl", "show", "--property=ControlGroup", "--value", *units).split()
    groups = " ".join(f"/sys/fs/cgroup{group}" for group in shown)
    processes = machine.run("sh", "-c", f"cat $(find {groups} -name cgroup.procs)").split()
    rollups = [machine.run("cat", f"/proc/{process}/smaps_rollup") for process in processes]
    print(f"processes at idle: {len(processes)}")
    return sum(int(match[1]) for text in rollups if (match := re.search(r"^Pss: +(\d+)", text, re.M))) / 1024


def scripts_process(machine: Machine) -> str:
    """The shell of the script that runs."""
    return machine.run("pgrep", "-f", "-u", "tentacle", "Bootstrap.sh").split()[0]
