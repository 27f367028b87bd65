"""`make figures`: what the packages weigh on a host, beside OpenSSH's server and Salt's minion on the same host.

All three are services of one booted Debian, each with somebody to serve: the agent polls an embedded server, sshd
listens, the minion has a master.  They are stopped and started by turns, so what else the machine does meanwhile
happens to all alike; only the ratios count.  Nothing here fails because a figure is large.

The minion tells systemd that it is ready before it has a master, so "until it works" is the fair one: connections to
a server, a greeting on the port, a master that has accepted it.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from conftest import only
from fresh_debian import ROOT, debian_root
from test_installed import KEY, SERVER, UNIT, apt, make_worker

from tests.e2e.machine import Machine, missing_tools
from tests.e2e.test_systemd import start_server
from tests.e2e.test_two_units import exposure

ROUNDS = 5
IMAGE_OF_THE_ORIGINAL = "328 MB"
OPENSSH = ("openssh-server", "openssh-client", "openssh-sftp-server")
SALT = "/opt/salt"
MINION = f"""\
[Service]
Type=notify
NotifyAccess=all
KillMode=mixed
LimitNOFILE=8192
Environment=PYTHONPATH={SALT}
ExecStart=/usr/bin/python3 {SALT}/bin/salt-minion
"""
"""As Salt's own packages have it, but for the place of the program."""
MASTER = MINION.replace("salt-minion", "salt-master")
AGENT_LOG = f"/etc/octopus/{UNIT}/Logs/OctopusTentacle.txt"
SALT_LOG = "/var/log/salt/minion"
TIMED = """\
systemctl stop {stopped}
rm -f {logs}
began=$EPOCHREALTIME
systemctl start {unit}
ready=$EPOCHREALTIME
until {works}; do sleep 0.01; done
works=$EPOCHREALTIME
systemctl show --property=CPUUsageNSec --value {units}
echo $(( ${{ready/./}} - ${{began/./}} )) $(( ${{works/./}} - ${{began/./}} ))
"""


@dataclass
class Subject:
    """A service: its units, those that are stopped so that none of it runs, and when it is of use."""

    name: str
    units: tuple[str, ...]
    stopped: tuple[str, ...]
    works: str


AGENT = Subject(
    "tentacle-agent",
    (f"{UNIT}.service", f"{UNIT}@scripts.service"),
    (f"{UNIT}.service", f"{UNIT}@scripts.service"),
    # The status text of the unit is up to two seconds behind.
    f"grep -qs 'connections are up' {AGENT_LOG}",
)
SUBJECTS = (
    AGENT,
    Subject(
        "openssh-server",
        ("ssh.service",),
        ("ssh.service",),
        "(exec 3<>/dev/tcp/127.0.0.1/22 && read -r greeting <&3 && [[ $greeting == SSH-* ]]) 2>/dev/null",
    ),
    Subject(
        "salt-minion",
        ("salt-minion.service",),
        ("salt-minion.service",),
        f"grep -qs 'Minion is ready to receive requests' {SALT_LOG}",
    ),
)


def main() -> None:
    if missing := missing_tools():
        sys.exit(f"To boot systemd, this machine needs {', '.join(missing)}.")
    root = debian_root("peers", "openssh-server", "python3", complete=add_salt)
    with (
        tempfile.TemporaryDirectory(prefix="tentacle-figures-") as directory,
        Machine(Path(directory), root) as machine,
    ):
        start_all(machine)
        rows = [*sizes(machine), *at_idle(machine), *starts(machine)]
    rows = [("", *(subject.name for subject in SUBJECTS)), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def add_salt(root: Path) -> None:
    """Salt is not in Debian 12: its wheels from the Python package index, for the host's own Python."""
    wheels = root.with_name("salt-wheels")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    subprocess.run([*pip, "wheel", "--wheel-dir", wheels, "salt"], check=True)
    install = (*pip, "install", "--no-index", "--find-links", wheels, "--target", root / SALT.lstrip("/"))
    subprocess.run([*install, "salt"], check=True)


def start_all(machine: Machine) -> None:
    root = machine.root
    (root / "srv/agent.deb").write_bytes(this_machine_s_deb().read_bytes())
    (root / "srv/key").write_text(KEY)
    (root / "etc/salt").mkdir()
    (root / "etc/salt/master").write_text("auto_accept: true\ninterface: 127.0.0.1\nuser: root\n")
    (root / "etc/salt/minion").write_text("master: 127.0.0.1\nid: minion\nlog_level_logfile: info\n")
    for name, unit in (("master", MASTER), ("minion", MINION)):
        (root / f"etc/systemd/system/salt-{name}.service").write_text(unit)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "ssh", "salt-master", "salt-minion")
    apt(machine, "install", "/srv/agent.deb")
    make_worker(machine, start_server(machine, *SERVER))
    for subject in SUBJECTS:
        machine.run("bash", "-c", f"until {subject.works}; do sleep 0.1; done")


def this_machine_s_deb() -> Path:
    done = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)
    return only(f"*_{done.stdout.strip()}.deb")


Row = tuple[str, ...]


def megabytes(paths: Iterable[Path]) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:.1f} MB"


def sizes(machine: Machine) -> list[Row]:
    debs = [next((ROOT / "build/peers/var/cache/apt/archives").glob(f"{name}_*.deb")) for name in OPENSSH]
    fields = machine.run("dpkg-query", "--show", "--showformat=${Installed-Size}\n", "tentacle-agent").split()
    of_openssh = machine.run("dpkg-query", "--show", "--showformat=${Installed-Size}\n", *OPENSSH).split()
    salt = machine.run("du", "--summarize", "--block-size=1000", SALT).split()[0]

    def installed(kilobytes: Iterable[str], unit: int = 1024) -> str:
        return f"{sum(map(int, kilobytes)) * unit / 1e6:.1f} MB"

    image = megabytes([only("*.oci.tar")])
    return [
        ("deb, or wheels", megabytes([this_machine_s_deb()]), megabytes(debs), megabytes(salt_wheels())),
        ("rpm", megabytes([only("*.rpm")]), "-", "-"),
        (f"image (the original's: {IMAGE_OF_THE_ORIGINAL})", image, "-", "-"),
        ("installed", installed(fields), installed(of_openssh), installed([salt], 1000)),
    ]


def salt_wheels() -> list[Path]:
    return list((ROOT / "build/salt-wheels").glob("*.whl"))


def at_idle(machine: Machine) -> list[Row]:
    memory = [f"{proportional_set(machine, *subject.units):.1f} MiB" for subject in SUBJECTS]
    exposed = [" and ".join(f"{exposure(machine, unit)}" for unit in subject.units) for subject in SUBJECTS]
    return [("PSS at idle", *memory), ("exposure of its units", *exposed)]


def proportional_set(machine: Machine, *units: str) -> float:
    """The memory of all processes of these units, in MiB; what several share is counted once."""
    shown = machine.run("systemctl", "show", "--property=ControlGroup", "--value", *units).split()
    groups = " ".join(f"/sys/fs/cgroup{group}" for group in shown)
    processes = machine.run("sh", "-c", f"cat $(find {groups} -name cgroup.procs)").split()
    rollups = [machine.run("cat", f"/proc/{process}/smaps_rollup") for process in processes]
    return sum(int(match[1]) for text in rollups if (match := re.search(r"^Pss: +(\d+)", text, re.M))) / 1024


def starts(machine: Machine) -> list[Row]:
    """Medians of what is measured by turns."""
    measured: dict[str, list[tuple[float, float, float]]] = {subject.name: [] for subject in SUBJECTS}
    for _ in range(ROUNDS):
        for subject in SUBJECTS:
            script = TIMED.format(
                stopped=" ".join(subject.stopped),
                logs={"salt-minion": SALT_LOG, AGENT.name: AGENT_LOG}.get(subject.name, ""),
                unit=subject.units[0],
                works=subject.works,
                units=" ".join(subject.units),
            )
            *cpu, ready, works = map(int, re.findall(r"\d+", machine.run("bash", "-c", script)))
            measured[subject.name].append((ready / 1e6, works / 1e6, sum(cpu) / 1e9))
    median = {
        name: tuple(statistics.median(column) for column in zip(*rounds, strict=True))
        for name, rounds in measured.items()
    }
    rows = []
    for column, what in enumerate(("systemctl start", "start until it works", "CPU until it works")):
        own = median[AGENT.name][column]
        cells = [f"{median[s.name][column]:.2f} s ({median[s.name][column] / own:.2f})" for s in SUBJECTS]
        rows.append((f"{what} (ratio)", *cells))
    return rows


if __name__ == "__main__":
    main()
