"""The agent and what starts its scripts as two units: what takes longer than `tests/e2e/test_two_units.py`.

These run the agent of this checkout, on a booted copy of this machine.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.machine import Machine
from tests.e2e.pages import blocks_of
from tests.e2e.test_systemd import UNIT, Site, make_instance, wait_until
from tests.e2e.test_two_units import LAUNCHER, WHOLE, main_process, site
from tests.patience import PATIENCE

__all__ = ["site"]
pytestmark = pytest.mark.timeout(900)
PORT = 10933
ASK = """\
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    s.connect("/run/tentacle/UNIT.sock")
    s.send(b"who")
    print("line", len(s.recv(16)))
except OSError:
    print("line", 0)
"""


def test_a_script_cannot_ask_for_another_process(site: Site) -> None:
    """It has the same user, so the mode of the socket does not keep it away."""
    program = ASK.replace("UNIT", UNIT)
    assert site.output(f"python3 - <<'END'\n{program}END") == ["line 0"]
    run = ("setpriv", "--reuid=tentacle", "--regid=tentacle", "--init-groups", "python3", "-c", program)
    assert site.machine.run(*run) == "line 4\n", "that it is asked at all"


def test_a_stop_ends_both_and_a_script_runs_on(site: Site) -> None:
    task = site.begin("stopped", 0)
    site.service("--stop")
    for unit in (f"{UNIT}.service", f"{LAUNCHER}.service", f"{LAUNCHER}.socket"):
        wait_until(lambda u=unit: site.machine.properties(u, "ActiveState")["ActiveState"] == "inactive")  # type: ignore[misc]
    assert not (site.machine.root / f"run/tentacle/{UNIT}.sock").exists()
    site.go("stopped")
    site.service("--start")
    assert site.end(task) == ("Success", WHOLE)


def test_a_launcher_that_hangs_is_started_again(site: Site) -> None:
    drop_in = site.machine.root / f"etc/systemd/system/{LAUNCHER}.service.d/watchdog.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text("[Service]\nWatchdogSec=1\n")
    site.machine.run("systemctl", "daemon-reload")
    site.machine.run("systemctl", "restart", f"{LAUNCHER}.service")
    hung = main_process(site, LAUNCHER)
    site.machine.run("kill", "-STOP", str(hung))
    wait_until(lambda: main_process(site, LAUNCHER) not in (0, hung))
    assert site.output("echo line 1") == ["line 1"]


def test_an_old_service_becomes_two_and_its_script_runs_on(site: Site) -> None:
    """As version 0.1 has installed it: one unit, whose agent starts the scripts itself."""
    directory = site.machine.root / "etc/systemd/system"
    site.service("--stop")
    text = (directory / f"{UNIT}.service").read_text()
    kept = re.sub(
        r"^(Environment=TENTACLE_SCRIPT|NoNew|Protect|Private|Restrict|System|Cap|Amb|Read|Lock).*\n",
        "",
        text,
        flags=re.M,
    )
    (directory / f"{UNIT}.service").write_text(
        kept.replace(f" {LAUNCHER}.socket", "").replace("[Install]", "Delegate=yes\n[Install]")
    )
    for suffix in ("service", "socket"):
        (directory / f"{LAUNCHER}.{suffix}").unlink()
    site.machine.run("systemctl", "daemon-reload")
    site.machine.run("systemctl", "start", UNIT)
    task = site.begin("old", 5)
    said = site.machine.run("tentacle", "doctor", expect=None)
    assert "--reconfigure --start" in " ".join(said.split())
    said = site.service("--reconfigure", "--start")
    assert f"Its scripts are started by {LAUNCHER}, with the ordinary rights of that user\n" in said
    assert site.output("echo line 1") == ["line 1"]
    site.go("old")
    assert site.end(task) == ("Failed", WHOLE)


def test_nobody_is_refused_while_a_listening_agent_is_started_again(site: Site) -> None:
    machine = site.machine
    make_instance(machine, "Listens", "/etc/octopus/listens/tentacle.config", f"--port={PORT}", "--noListen=False")
    machine.run("tentacle", "service", "--instance=Listens", "--install", "--start")
    with knocking(machine) as counts:
        for verb in ("restart", "kill", "restart"):
            before = main_of_listens(site)
            if verb == "kill":
                machine.run("kill", "-KILL", str(before))
            else:
                machine.run("tentacle", "service", "--instance=Listens", "--restart")
            wait_until(lambda before=before: main_of_listens(site) not in (0, before))  # type: ignore[misc]
            wait_until(lambda: machine.properties("Listens", "ActiveState")["ActiveState"] == "active")
    print(f"connections while the agent was started again three times: {counts}")
    assert counts["refused"] == 0
    assert counts["connected"] > 100
    page = machine.run("curl", "--silent", "--insecure", f"https://127.0.0.1:{PORT}/")
    assert "Octopus Tentacle" in page

    # Another port: what systemd keeps for the old one is let go.
    machine.run("tentacle", "configure", "--instance=Listens", f"--port={PORT + 1}")
    machine.run("tentacle", "service", "--instance=Listens", "--restart")
    listening = machine.run("ss", "--listening", "--tcp", "--numeric")
    assert f":{PORT + 1} " in listening
    wait_until(lambda: f":{PORT} " not in machine.run("ss", "--listening", "--tcp", "--numeric"))
    machine.run("tentacle", "service", "--instance=Listens", "--stop")
    wait_until(lambda: f":{PORT + 1} " not in machine.run("ss", "--listening", "--tcp", "--numeric"))
    machine.run("tentacle", "delete-instance", "--instance=Listens", "--uninstall-service")
    left = [path.name for path in (machine.root / "etc/systemd/system").rglob("Listens*")]
    assert left == []


def test_with_a_socket_unit_of_the_operator_s_nobody_is_refused_even_while_it_is_stopped(site: Site) -> None:
    """As docs/operating.md has it."""
    machine = site.machine
    make_instance(machine, "Listens", "/etc/octopus/listens/tentacle.config", f"--port={PORT}", "--noListen=False")
    machine.run("tentacle", "service", "--instance=Listens", "--install", "--start")
    (typed,) = (block for block in blocks_of("docs/operating.md") if "ListenStream" in block)
    machine.run("sh", "-ec", typed.replace("Tentacle.", "Listens.").replace("=Tentacle", "=Listens"))
    page = ("curl", "--silent", "--insecure", f"https://127.0.0.1:{PORT}/")
    with knocking(machine) as counts:
        machine.run("tentacle", "service", "--instance=Listens", "--restart")
        machine.run("tentacle", "service", "--instance=Listens", "--stop")
        wait_until(lambda: machine.properties("Listens", "ActiveState")["ActiveState"] == "active")
        killed = main_of_listens(site)
        machine.run("kill", "-KILL", str(killed))
        wait_until(lambda: main_of_listens(site) not in (0, killed))
    # Those that have waited meanwhile are more than an agent talks to at once.
    wait_until(lambda: "Octopus Tentacle" in machine.run(*page, expect=None))
    print(f"connections while it was started again, stopped and killed: {counts}")
    assert counts["refused"] == 0
    assert counts["connected"] > 50
    machine.run("systemctl", "disable", "--now", "Listens.socket")
    machine.run("tentacle", "delete-instance", "--instance=Listens", "--uninstall-service")
    machine.run("rm", "/etc/systemd/system/Listens.socket")


@contextmanager
def knocking(machine: Machine) -> Iterator[dict[str, int]]:
    """Connects all the time, and counts how often that was possible."""
    stop, counts = threading.Event(), {"connected": 0, "refused": 0}

    def knock() -> None:
        while not stop.is_set():
            try:
                socket.create_connection(("127.0.0.1", PORT), PATIENCE).close()
                counts["connected"] += 1
            except ConnectionRefusedError:
                counts["refused"] += 1
            time.sleep(0.005)

    thread = threading.Thread(target=lambda: machine.on_the_network(knock))
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join()


def main_of_listens(site: Site) -> int:
    return main_process(site, "Listens")


def test_nothing_of_either_is_left(site: Site) -> None:
    site.service("--uninstall")
    directory = Path(site.machine.root / "etc/systemd/system")
    assert [path.name for path in directory.rglob("*") if path.name in site.unit_files] == []
    assert not (site.machine.root / f"run/tentacle/{UNIT}.sock").exists()
    wait_until(lambda: "tentacle" not in site.machine.run("ps", "-eo", "user=").split())
