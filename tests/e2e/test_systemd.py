"""The agent as a service under a real systemd, booted in namespaces (see `machine.py`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tentacle.host.unit import DESCRIPTION
from tests.e2e.machine import Machine, missing_tools
from tests.e2e.stage import TENTACLE, Server
from tests.patience import PATIENCE
from tests.recorded import VECTORS

WORKER, POOL = "On Service", "Default Worker Pool"
UNIT = "On-Service"
HOME = "/etc/octopus/worker"
APPLICATIONS = "/home/Octopus/Applications"
VECTOR = VECTORS / "dotnet-instance"
SHORT_DRAIN = "[Service]\nEnvironment=TENTACLE_DRAIN_TIMEOUT=00:00:00.2\n"
COUNTING = """\
echo "user $(id -un), notify ${{NOTIFY_SOCKET-none}}, watchdog ${{WATCHDOG_USEC-none}}"
for n in $(seq 1 200); do echo "line $n"; done
touch /tmp/{mark}.begun
until test -e /tmp/{mark}.go; do sleep 0.05; done
for n in $(seq 201 400); do echo "line $n"; done
exit {code}
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    missing = missing_tools()
    assert not missing, f"to boot systemd, this machine needs {', '.join(missing)} (tests/peers.sh installs it)"
    with Machine(tmp_path) as made:
        yield made


def start_server(machine: Machine, *options: str) -> Server:
    """An Octopus Server on the machine's own loopback."""
    ready = machine.root / "run/server.json"
    process = machine.start("tentacle", "devserver", "--ready-file=/run/server.json", *options)
    process.wait_for("Thumbprint:")
    wait_until(ready.exists)
    facts = json.loads(ready.read_text())
    port = int(facts["comms"].rsplit(":", 1)[1])
    return Server(facts["rest"], port, facts["thumbprint"], facts["api_key"], process)


@dataclass
class Site:
    """An Octopus Server and a worker that is registered there, both on the machine."""

    machine: Machine
    server: Server

    def service(self, *options: str) -> str:
        return self.machine.run("tentacle", "service", f"--instance={WORKER}", *options)

    def begin(self, mark: str, code: int) -> str:
        """Starts a script that has written half of its lines when this returns; its task."""
        task = self.machine.on_the_network(
            lambda: self.server.run_script(self.server.worker(WORKER)["Id"], COUNTING.format(mark=mark, code=code))
        )
        wait_until((self.machine.root / f"tmp/{mark}.begun").exists)
        return task

    def go(self, mark: str) -> None:
        (self.machine.root / f"tmp/{mark}.go").touch()

    def end(self, task: str) -> tuple[str, list[str]]:
        """The state in which the task has ended, and its script's own lines."""
        state = self.machine.on_the_network(lambda: self.server.finished(task))["State"]
        log = self.machine.on_the_network(lambda: self.server.request("GET", f"api/tasks/{task}/raw")).decode()
        lines = [line.split(" | ", 1)[1].strip() for line in log.splitlines() if " | " in line]
        return state, [line for line in lines if line.startswith(("line ", "user "))]

    def output(self, body: str) -> list[str]:
        """What a script of one's own has written, of its lines that begin as those of `end`."""
        task = self.machine.on_the_network(lambda: self.server.run_script(self.server.worker(WORKER)["Id"], body))
        return self.end(task)[1]

    @property
    def unit_files(self) -> tuple[str, ...]:
        return (f"{UNIT}.service", f"{UNIT}@scripts.service", f"{UNIT}@scripts.socket")

    @property
    def main_process(self) -> int:
        return int(self.machine.properties(UNIT, "MainPID")["MainPID"])


@pytest.fixture
def site(machine: Machine) -> Site:
    return set_up_polling(machine)


def set_up_polling(machine: Machine) -> Site:
    """`create-instance`, `new-certificate`, `configure`, `register-worker`: a polling worker without its agent."""
    server = start_server(machine)
    instance = f"--instance={WORKER}"
    machine.run("tentacle", "create-instance", instance, f"--config={HOME}/tentacle.config")
    machine.run("tentacle", "new-certificate", instance, "--if-blank")
    machine.run("tentacle", "configure", instance, f"--app={APPLICATIONS}", "--noListen=True")
    machine.run(
        *("tentacle", "register-worker", instance, f"--server={server.rest}", f"--name={WORKER}"),
        *(f"--workerpool={POOL}", "--comms-style=TentacleActive", f"--server-comms-port={server.comms_port}"),
        environment={"OCTOPUS_API_KEY": server.key},
    )
    drop_in = machine.root / f"etc/systemd/system/{UNIT}.service.d/drain.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(SHORT_DRAIN)
    return Site(machine, server)


def test_scripts_outlive_restart_kill_and_stop_of_their_service(site: Site) -> None:
    said = site.service("--install", "--start")
    assert f"Service installed: {UNIT}\n" in said
    assert f"Service started: {UNIT}\n" in said
    whole = ["user tentacle, notify none, watchdog none", *(f"line {n}" for n in range(1, 401))]

    task = site.begin("restart", 3)
    said = site.service("--restart")
    assert said.splitlines() == [f"Restarting service: {UNIT}", "Service has been restarted"]
    site.go("restart")
    assert site.end(task) == ("Failed", whole)

    task = site.begin("kill", 0)
    killed = site.main_process
    site.machine.run("kill", "-KILL", str(killed))
    site.go("kill")
    assert site.end(task) == ("Success", whole)
    assert site.main_process not in (0, killed)
    assert site.machine.properties(UNIT, "NRestarts", "User") == {"NRestarts": "1", "User": "tentacle"}

    task = site.begin("stop", 0)
    assert site.service("--stop").splitlines() == [f"Stopping service: {UNIT}", "Service stopped"]
    site.go("stop")
    site.service("--start")
    assert site.end(task) == ("Success", whole)

    said = site.service("--stop", "--uninstall")
    assert said.splitlines()[-2:] == [f"Removing systemd service: {UNIT}", "Service uninstalled"]
    assert not (site.machine.root / f"etc/systemd/system/{UNIT}.service").exists()
    assert site.machine.properties(UNIT, "LoadState") == {"LoadState": "not-found"}
    wait_until(lambda: "tentacle" not in site.machine.run("ps", "-eo", "user=").split())


def test_what_the_service_may_read_is_its_users_and_nobody_elses(site: Site) -> None:
    said = site.service("--install", "--start", "--status")
    root = site.machine.root
    owner = (root / "var/lib/tentacle").stat().st_uid
    assert "Created the system user 'tentacle', with the home directory /var/lib/tentacle\n" in said
    assert owner not in (0, os.getuid())
    for path in ("", "tentacle.config", "tentacle.config.key", "Logs", "Work", "Logs/OctopusTentacle.txt"):
        assert (root / f"etc/octopus/worker/{path}").stat().st_uid == owner, path
    assert (root / "etc/octopus/worker/tentacle.config.key").stat().st_mode & 0o777 == 0o600
    assert (root / "etc/octopus/Tentacle/Instances").stat().st_uid == 0
    unit = root / f"etc/systemd/system/{UNIT}.service"
    assert (unit.stat().st_uid, unit.stat().st_mode & 0o777) == (0, 0o644)
    assert f"Service {UNIT}: active (running), enabled\n" in said
    facts = json.loads(site.service("--status", "--format=json"))
    assert {facts[n] for n in ("Service", "Active", "User", "Enabled")} == {UNIT, "active", "tentacle", "enabled"}
    assert facts["ProcessId"] == site.main_process
    assert re.fullmatch(r"polling 1 server, \d of 5 connections up; 0 script\(s\) running", facts["Status"])
    assert site.machine.run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}.service").strip() == ""
    assert "runs on" not in site.service("--install", "--start"), "the same once more"
    said = site.service("--install", "--start", "--username=root")
    again = f"Tentacle service '--instance={WORKER}' --restart"
    assert f"It runs on with its old settings until it is restarted: {again}\n" in said


def test_a_hung_agent_is_started_again(site: Site) -> None:
    drop_in = site.machine.root / f"etc/systemd/system/{UNIT}.service.d/watchdog.conf"
    drop_in.write_text("[Service]\nWatchdogSec=4\nTimeoutAbortSec=1\n")
    site.service("--install", "--start")
    hung = site.main_process
    site.machine.run("kill", "-STOP", str(hung))
    wait_until(lambda: site.main_process not in (0, hung))
    assert "Watchdog timeout" in site.machine.journal(UNIT)


def test_init_goes_from_nothing_to_a_service_and_changes_nothing_the_second_time(machine: Machine) -> None:
    server = start_server(machine)
    command = (
        *("tentacle", "init", "--yes", "--mode=polling", f"--server={server.rest}", "--name=Fresh", "--service"),
        f"--server-comms-port={server.comms_port}",
    )
    key = {"OCTOPUS_API_KEY": server.key}
    refused = machine.run(*command, "--service-user=nobody2", expect=1, environment=key)
    assert refused.startswith("The user 'nobody2' does not exist on this machine.\n")
    assert not (machine.root / "etc/octopus").exists(), "what cannot be is told before anything is done"

    said = machine.run(*command, environment=key)
    assert said.splitlines()[-3:] == [
        "  Service started: Tentacle",
        "  The agent is at work",
        "Done.  See how it is: tentacle status --instance=Tentacle",
    ]
    state = json.loads(machine.run("tentacle", "status", "--format=json"))
    assert (state["Healthy"], state["Agent"]["User"]) == (True, "tentacle")
    assert (machine.root / "etc/octopus/worker").stat().st_uid != 0
    assert (machine.root / "etc/octopus/Tentacle").stat().st_uid == 0

    def script() -> str:
        task = server.run_script(server.worker("Fresh")["Id"], "id -un")
        state: str = server.finished(task)["State"]
        return state

    assert machine.on_the_network(script) == "Success"
    again = json.loads(machine.run(*command, "--format=json", environment=key))
    assert again["Changed"] == []
    assert "All is well.\n" in machine.run("tentacle", "doctor", f"--server={server.rest}", environment=key)


def test_an_original_s_instance_is_taken_over_where_it_lies(machine: Machine) -> None:
    octopus, name = machine.root / "etc/octopus", "Legacy"
    shutil.copytree(VECTOR, machine.root / "root/vector")
    for source, target in (("registry-legacy.config", "Tentacle/Instances"), ("tentacle-Legacy.config", name)):
        (octopus / target).mkdir(parents=True)
        shutil.copy(VECTOR / source, octopus / target)
    old = (octopus / "Legacy/tentacle-Legacy.config").read_bytes()
    unit = machine.root / "etc/systemd/system/Legacy.service"
    unit.write_text(f"[Unit]\nDescription={DESCRIPTION}\n[Service]\nExecStart=/bin/sleep 1000\n")
    said = machine.run(
        *("tentacle", "import-instance", f"--name={name}", "--instance=Worker", f"--config={HOME}/tentacle.config"),
        "--machine-id=/root/vector/machine-id",
    )
    assert said.splitlines()[-2:] == [
        "Nothing of the original was changed. Stop it for good before this one starts: both are the same to a server.",
        "  systemctl disable --now Legacy",
    ]
    machine.run("tentacle", "service", "--instance=Worker", "--install", "--start")
    state = json.loads(machine.run("tentacle", "status", "--instance=Worker", "--format=json", expect=None))
    assert (state["Agent"]["Running"], state["Agent"]["User"]) == (True, "tentacle")
    assert [one["SubscriptionId"] for one in state["TrustedOctopusServers"]] == [None, "poll://erh8tg5lf2pjxzlgqpbl/"]
    assert (octopus / "Legacy/tentacle-Legacy.config").read_bytes() == old
    assert (octopus / "Legacy").stat().st_uid == 0


def test_the_register_of_instances_stays_root_s_whatever_a_service_s_user_writes(machine: Machine) -> None:
    """The original's usual directory also holds the names of all instances, other services' among them."""
    folder, tentacle = machine.root / "etc/octopus/Tentacle", ("tentacle", "service", "--instance=Tentacle")
    config = "/etc/octopus/Tentacle/tentacle-Tentacle.config"
    make_instance(machine, "Tentacle", config, "--port=0", "--noListen=False")
    said = machine.run(*tentacle, "--install", "--start")
    assert "Opened the directory /etc/octopus/Tentacle to the user 'tentacle'" in said
    user = (folder / "tentacle-Tentacle.config").stat().st_uid
    assert (folder.stat().st_uid, (folder / "Instances").stat().st_uid, user != 0) == (0, 0, True)
    wait_until(lambda: machine.run("tentacle", "status", expect=None).startswith("● Tentacle is running\n"))
    assert "FAIL" not in machine.run("tentacle", "doctor")
    machine.run("tentacle", "configure", "--instance=Tentacle", "--listenIpAddress=127.0.0.1")
    assert (folder / "tentacle-Tentacle.config").stat().st_uid == user, "the owner is kept"
    as_user = ("setpriv", f"--reuid={user}", "--regid=tentacle", "--clear-groups")
    machine.run(*as_user, "mv", "/etc/octopus/Tentacle/Instances", "/etc/octopus/Tentacle/mine", expect=1)

    machine.run("mkdir", "-p", "/etc/precious.d/empty")
    for line in ("home: /etc/precious.d", "application-directory: /etc/precious.d/empty"):
        name = line.partition(":")[0]
        machine.run(*as_user, "sed", "-i", f"s#^{name}: .*#{line}#", config)
    refused = machine.run(*tentacle, "--reconfigure", expect=1)
    assert "The directory '/etc/precious.d' is named by a configuration that belongs to tentacle" in refused
    assert (machine.root / "etc/precious.d").stat().st_uid == 0
    machine.run(*as_user, "sed", "-i", "s#^home: .*#home: /etc/octopus/Tentacle#", config)
    said = machine.run(*tentacle, "--reconfigure", "--start")
    assert "The directory /etc/precious.d/empty keeps its owner" in said
    assert (machine.root / "etc/precious.d/empty").stat().st_uid == 0


def make_instance(machine: Machine, name: str, config: str, *settings: str) -> None:
    machine.run("tentacle", "create-instance", f"--instance={name}", f"--config={config}")
    machine.run("tentacle", "new-certificate", f"--instance={name}", "--if-blank")
    machine.run("tentacle", "configure", f"--instance={name}", "--app=/srv/applications", *settings)


def test_names_are_quoted_users_kept_and_all_instances_meant_by_a_star(machine: Machine) -> None:
    odd = """it's %n "of" $HOME"""
    make_instance(machine, odd, "/etc/octopus/odd/tentacle.config", "--port=0", "--noListen=False")
    make_instance(machine, "Plain", "/etc/octopus/plain/tentacle.config", "--noListen=True")
    said = machine.run("tentacle", "service", f"--instance={odd}", "--install", "--start")
    unit = r"it\x27s-\x25n-\x22of\x22-\x24HOME"
    assert f"Service started: {unit}\n" in said
    pid = machine.properties(f"{unit}.service", "MainPID")["MainPID"]
    arguments = (machine.root / f"proc/{pid}/cmdline").read_text().split("\0")
    assert f"--instance={odd}" in arguments

    plain = ("tentacle", "service", "--instance=plain")
    machine.run(*plain, "--install", "--username=root", "--dependOn=dbus")
    file = machine.root / "etc/systemd/system/Plain.service"
    assert {"User=root", "Wants=network-online.target Plain@scripts.socket dbus.service"} <= set(
        file.read_text().splitlines()
    )
    said = machine.run(*plain, "--reconfigure")
    assert "Attempting to remove old service: Plain\n" in said
    assert "User=root" in file.read_text().splitlines()

    everyone = ("tentacle", "service", "--instance=*")
    assert machine.run(*everyone, "--start") == f"Service started: Plain\nService started: {unit}\n"
    assert "--instance=* can only be used for" in machine.run(*everyone, "--uninstall", expect=1)
    facts = json.loads(machine.run(*everyone, "--stop", "--format=json"))
    assert [(one["Service"], one["Active"]) for one in facts["Services"]] == [("Plain", "inactive"), (unit, "inactive")]
    file.unlink()
    machine.run("systemctl", "daemon-reload")
    said = machine.run(*everyone, "--start", expect=1)
    assert f"Service started: {unit}\n" in said, "the others get their turn"
    assert "Could not start the systemd service: Plain\n" in said


def test_paths_may_hold_blanks_percent_signs_and_dollars(machine: Machine) -> None:
    program, base = "/opt/ten tacle %n $x/Tentacle", "/srv/a b%h"
    machine.run("install", "--directory", str(Path(program).parent), base)
    (machine.root / program[1:]).symlink_to(TENTACLE)
    where = {"TentacleMachineConfigurationHomeDirectory": base}

    def run(*arguments: str) -> str:
        return machine.run(program, *arguments, environment=where)

    run("create-instance", "--instance=a%b", f"--config={base}/x y/t%i.config")
    run("configure", "--instance=a%b", "--port=0", "--app=/srv/apps 1%u")
    said = run("service", "--instance=a%b", "--install", "--start")
    unit = r"a\x25b"
    assert f"Service started: {unit}\n" in said
    pid = machine.properties(f"{unit}.service", "MainPID")["MainPID"]
    started = (machine.root / f"proc/{pid}/cmdline").read_text().split("\0")
    assert started[-4:-1] == ["agent", "--instance=a%b", "--noninteractive"]
    assert program in started
    assert f"TentacleMachineConfigurationHomeDirectory={base}\0" in (machine.root / f"proc/{pid}/environ").read_text()
    assert "Service uninstalled\n" in run("service", "--instance=a%b", "--uninstall")
    assert "Service uninstalled\n" in run("service", "--instance=a%b", "--uninstall"), "nothing to do is no failure"


def test_no_instance_leaves_a_service_and_a_service_without_an_instance_can_be_removed(machine: Machine) -> None:
    units = machine.root / "etc/systemd/system"

    def tentacle(*arguments: str, expect: int = 0) -> list[str]:
        return machine.run("tentacle", *arguments, expect=expect).splitlines()

    for name in ("Own", "Other"):
        make_instance(machine, name, f"/etc/octopus/{name}/tentacle.config", "--port=0", "--noListen=False")
        tentacle("service", f"--instance={name}", "--install", "--start")
    refused = tentacle("delete-instance", "--instance=own", expect=1)
    assert refused[0] == "The instance 'Own' was not deleted: the service Own runs it."
    assert refused[1].endswith("at once: Tentacle delete-instance --instance=Own --uninstall-service")
    (units / "Own.service.d").mkdir()
    said = tentacle("delete-instance", "--instance=own", "--uninstall-service")
    assert said[:3] == ["Removing systemd service: Own", "Service uninstalled", "Deleted instance: Own"]
    assert "Changes to its unit stay: /etc/systemd/system/Own.service.d" in said
    assert not (units / "Own.service").exists()
    assert machine.properties("Own.service", "ActiveState") == {"ActiveState": "inactive"}
    assert len(tentacle("list-instances")) == 1

    (machine.root / "etc/octopus/Other/tentacle.config").unlink()
    assert "could not be located" in tentacle("service", "--instance=Other", "--start", expect=1)[0]
    assert tentacle("service", "--stop") == ["Stopping service: Other", "Service stopped"], "it is the only one left"
    (machine.root / "etc/octopus/Tentacle/Instances/other.config").unlink()
    for _ in range(2):
        assert "has not been configured" in tentacle("service", "--instance=other", "--uninstall", expect=1)[0]
    elsewhere = {"TentacleMachineConfigurationHomeDirectory": "/srv"}
    machine.run("tentacle", "service", "--instance=Other", "--uninstall", expect=1, environment=elsewhere)
    gone = tentacle("service", "--instance=Other", "--uninstall")
    assert gone == ["Removing systemd service: Other", "Service uninstalled"]
    assert not (units / "Other.service").exists()

    tentacle("create-instance", "--home=/srv/unnamed")
    machine.run("sh", "-c", "cd /srv/unnamed && tentacle service --install --username=root")
    machine.run("rm", "-r", "/srv/unnamed")
    gone = tentacle("service", "--uninstall")
    assert gone == ["Removing systemd service: OctopusDeploy-Tentacle", "Service uninstalled"]


def test_an_agent_that_ends_at_once_is_not_started_for_ever_and_a_person_is_not_locked_out(machine: Machine) -> None:
    make_instance(machine, "Own", "/etc/octopus/worker/tentacle.config", "--port=0", "--noListen=False")
    service = ("tentacle", "service", "--instance=Own")
    machine.run(*service, "--install", "--username=root")
    limit = machine.properties("Own.service", "StartLimitBurst", "StartLimitIntervalUSec")
    assert limit == {"StartLimitBurst": "60", "StartLimitIntervalUSec": "30min"}
    drop_in = machine.root / "etc/systemd/system/Own.service.d/fast.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Unit]\nStartLimitBurst=2\n[Service]\nRestartSec=0\n")
    machine.run("systemctl", "daemon-reload")
    other = machine.start("tentacle", "agent", "--instance=Own", "--noninteractive")
    other.wait_for("Agent listening on")
    machine.run(*service, "--start", expect=1)
    wait_until(lambda: machine.properties("Own.service", "ActiveState") == {"ActiveState": "failed"})
    assert "systemd starts it no more" in machine.run(*service, "--status")
    assert "ended too often right after its start" in machine.run("tentacle", "doctor", expect=None)
    machine.run("sh", "-c", "kill $(cat /etc/octopus/worker/agent.lock)")
    assert other.wait() == 0
    machine.run("systemctl", "start", "Own", expect=1)
    assert machine.run(*service, "--start") == "Service started: Own\n"
    for _ in range(3):
        machine.run(*service, "--restart")
    assert machine.properties("Own.service", "ActiveState") == {"ActiveState": "active"}


def test_what_cannot_be_is_told_in_a_line_and_changes_nothing(machine: Machine) -> None:
    units = machine.root / "etc/systemd/system"
    make_instance(machine, "dbus", "/etc/octopus/dbus/tentacle.config", "--noListen=True")
    make_instance(machine, "Roots", "/root/tentacle.config", "--noListen=True")
    make_instance(machine, "Fine", "/etc/octopus/fine/tentacle.config", "--port=0", "--noListen=False")
    before = sorted(units.iterdir())
    for options, message in (
        (("--instance=dbus", "--install"), "is not one that runs Tentacle"),
        (("--instance=dbus", "--stop"), "is not one that runs Tentacle"),
        (("--instance=Roots", "--install"), "is not the instance's alone"),
        (("--instance=Fine", "--install", "--username=nobody2"), "The user 'nobody2' does not exist"),
        (("--instance=Fine", "--install", "--dependOn=a/b"), "is not the name of a service"),
        (("--instance=Fine", "--start"), "Could not start the systemd service: Fine"),
        (("--instance=Fine", "--restart"), "The service could not be restarted"),
        (("--instance=None", "--start"), "has not been configured on this machine"),
    ):
        assert message in machine.run("tentacle", "service", *options, expect=1), options
    assert sorted(units.iterdir()) == before
    assert machine.run("systemctl", "is-active", "dbus.service").strip() == "active"
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    said = machine.run(*as_nobody, "tentacle", "service", "--instance=Fine", "--install", expect=1)
    assert said.startswith("Requires elevated privileges. Please run command as sudo.\nWithout root: 'Tentacle agent ")
    own = ("tentacle", "init", "--yes", "--no-register", "--mode=polling", "--instance=Own")
    said = machine.run(*as_nobody, *own, expect=1)
    assert said.splitlines()[-1].startswith("Run this as root, or give a path in a directory of yours by --config=PATH")
    machine.run("install", "--directory", "--owner=65534", "/srv/own")
    said = machine.run(*as_nobody, *own, environment={"TentacleMachineConfigurationHomeDirectory": "/srv/own"})
    assert "Application directory set to: /srv/own/Own/Applications\n" in said
    refused = machine.run(*as_nobody, *own, "--service", expect=1)
    assert refused.startswith("Requires elevated privileges. Please run command as sudo.\n")
    # Over the directory, which may be that of the checkout, in use by other tests.
    machine.run("mkdir", "/run/upper", "/run/work")
    layers = f"lowerdir={TENTACLE.parent},upperdir=/run/upper,workdir=/run/work"
    machine.run("mount", "-t", "overlay", "-o", layers, "overlay", str(TENTACLE.parent))
    machine.run("chmod", "0700", str(TENTACLE.parent))
    said = machine.run("tentacle", "service", "--instance=Fine", "--install", expect=1)
    assert "The user 'tentacle' cannot run" in said
    assert (machine.root / "etc/octopus/fine/tentacle.config").stat().st_uid == 0, "nothing has been given away"
    assert sorted(units.iterdir()) == before


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 2 * PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
