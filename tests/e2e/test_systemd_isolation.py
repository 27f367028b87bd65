"""Scripts that are kept apart by an agent without root, as a service under a real systemd (see `machine.py`)."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.machine import ROOT, Machine
from tests.e2e.test_systemd import APPLICATIONS, POOL, UNIT, WORKER, Site, machine, site, start_server, wait_until

__all__ = ["machine", "site"]

GROUP = f"/sys/fs/cgroup/system.slice/{UNIT}@scripts.service"
LOOK = """\
id -un; grep -o tentacle-run /proc/self/cgroup
ls -A ..; ls -A /tmp; find /var/tmp -mindepth 1; echo that is all
"""


def configure(site: Site, *options: str) -> None:
    site.machine.run("tentacle", "configure", f"--instance={WORKER}", *options)


def restart(site: Site, text: str = "") -> str:
    """The state of the service once it has been started anew with these lines in the unit that starts its scripts."""
    drop_in = site.machine.root / f"etc/systemd/system/{UNIT}@scripts.service.d/more.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text(f"[Service]\n{text}\n")
    site.machine.run("systemctl", "daemon-reload")
    site.machine.run("systemctl", "restart", UNIT, expect=None)
    return site.machine.properties(UNIT, "ActiveState")["ActiveState"]


def script(site: Site, body: str) -> str:
    """The task of a script, begun."""
    return site.machine.on_the_network(lambda: site.server.run_script(site.server.worker(WORKER)["Id"], body))


def output(site: Site, task: str) -> list[str]:
    """What a script has written, once it has ended."""
    site.machine.on_the_network(lambda: site.server.finished(task))
    log = site.machine.on_the_network(lambda: site.server.request("GET", f"api/tasks/{task}/raw")).decode()
    return [line.split(" | ", 1)[1].strip() for line in log.splitlines() if " Info " in line or " Error " in line]


def test_private_scripts_without_root_and_the_units_that_stand_in_their_way(site: Site) -> None:
    configure(site, "--script-isolation=private")
    site.service("--install", "--start")
    wait = "touch begun; until test -e go; do sleep 0.05; done"
    other = script(site, f"touch /tmp/other /var/tmp/other; echo ready; {wait}")
    work = site.machine.root / "etc/octopus/worker/Work"
    wait_until(lambda: list(work.glob("*/begun")) != [])
    (busy,) = (path.parent for path in work.glob("*/begun"))

    uid = work.stat().st_uid

    def look() -> None:
        seen = output(site, script(site, LOOK))
        assert (seen[:2], seen[3:]) == (["tentacle", "tentacle-run"], [".dotnet", f".dotnet-uid{uid}", "that is all"])
        assert seen[2] != busy.name

    look()
    for harmless in (
        "NoNewPrivileges=yes\nRestrictSUIDSGID=yes\nLockPersonality=yes",
        "ProtectSystem=strict\nReadWritePaths=/etc/octopus/worker /tmp /var/tmp",
        "ProtectKernelTunables=yes\nProtectKernelLogs=yes\nProtectControlGroups=no",
    ):
        assert restart(site, harmless) == "active", site.machine.journal(UNIT)
        look()
    for fatal in ("RestrictNamespaces=yes", "SystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM"):
        assert restart(site, fatal) != "active"
        said = site.machine.journal(UNIT)
        assert "Scripts cannot be run with the isolation 'private' and the limits that are set: " in said
        assert "Operation not permitted (giving the script namespaces of its own)" in said
        assert "RestrictNamespaces=" in said
        site.machine.run("systemctl", "stop", UNIT)
    # All that time a script has run on, in the namespaces in which it was born.
    (busy / "go").touch()
    assert restart(site) == "active"
    assert output(site, other) == ["ready"]


def test_users_for_scripts_need_root_idmapped_mounts_and_a_way_to_the_workspaces(site: Site) -> None:
    instance = "/etc/octopus/worker"
    home = site.machine.root / instance[1:]
    chosen = ("--script-isolation=user", "--script-uid-range=31000-31009")
    # The machine lies on an overlay, as a container does.
    said = site.machine.run("tentacle", "configure", f"--instance={WORKER}", *chosen, expect=1)
    assert f"Scripts cannot be given users of their own here: Invalid argument: '{instance}'" in said
    assert "such as ext4, xfs or btrfs" in said
    site.machine.run("cp", "-a", "/etc/octopus", "/run/octopus")
    for place in ("/etc/octopus", APPLICATIONS):
        site.machine.run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", place)
    site.machine.run("cp", "-a", "/run/octopus/.", "/etc/octopus")
    configure(site, *chosen)
    site.service("--install")
    assert restart(site) != "active"
    said = site.machine.journal(UNIT)
    assert "Scripts can run under users of their own only if the agent runs as root" in said
    site.service("--install", "--username=root")
    home.parent.chmod(0o700)
    assert restart(site) != "active"
    said = site.machine.journal(UNIT)
    assert "Scripts under users of their own cannot reach their workspaces through '/etc/octopus'" in said
    assert "Run: chmod o+x '/etc/octopus'" in said
    site.machine.run("chmod", "o+x", "/etc/octopus")
    assert restart(site) == "active", site.machine.journal(UNIT)
    begun = [script(site, "id -u; touch begun; until test -e go; do sleep 0.05; done") for _ in range(2)]
    wait_until(lambda: len(list(home.glob("Work/*/begun"))) == 2)
    # The next agent finds both, and lends neither of their users again.
    assert restart(site) == "active"
    body = (
        "id -u; cat /etc/octopus/worker/tentacle.config.key; ls ..; ls -ld /proc/1; touch /etc/made; "
        "touch $TentacleHome/made $TentacleApplications/made $TentacleHome/Tools/made; rm $TentacleHome/tentacle.config"
    )
    seen = output(site, script(site, body))
    assert len([line for line in seen if "Permission denied" in line]) == 2
    assert len([line for line in seen if "Read-only file system" in line]) == 1
    assert len([line for line in seen if "Operation not permitted" in line or "No such file" in line]) == 2
    made = [path / "made" for path in (home, home / "Tools", site.machine.root / APPLICATIONS[1:])]
    assert {path.stat().st_uid for path in made} == {31000}
    for workspace in home.glob("Work/*/begun"):
        (workspace.parent / "go").touch()
    users = [seen[0], *(output(site, task)[0] for task in begun)]
    assert len(set(users)) == 3
    assert all(31001 <= int(user) <= 31009 for user in users)


def test_two_projects_under_accounts_of_their_own(machine: Machine) -> None:
    """As docs/security.md sets them up."""
    server = start_server(machine)
    site = Site(machine, server)
    (machine.root / "root/octopus.key").write_text(server.key)
    own = {
        "https://octopus.example.com": server.rest,
        "--workerpool=$project": f"--workerpool='{POOL}'",
        "=10943": f"={server.comms_port}",
    }
    text = (ROOT / "docs" / "security.md").read_text().partition("## Projects that are hostile to each other")[2]
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        machine.run("bash", "-euc", re.sub("|".join(map(re.escape, own)), lambda found: own[found[0]], block))
    host = machine.run("hostname").strip()

    def script_of(project: str, body: str) -> str:
        return machine.on_the_network(lambda: server.run_script(server.worker(f"{host}-{project}")["Id"], body))

    work = machine.root / "etc/octopus/red/Work"
    go = "touch /tmp/.dotnet/of-red; echo secret >file; touch begun; until test -e go; do sleep 0.05; done"
    red = script_of("red", f"id -un; {go}")
    wait_until(lambda: list(work.glob("*/begun")) != [])
    (workspace,) = (path.parent for path in work.glob("*/begun"))
    agent = machine.properties("red", "MainPID")["MainPID"]
    there = f"/etc/octopus/red/Work/{workspace.name}/file"
    look = (
        f"id -un; cat /etc/octopus/red/tentacle.config.key; cat {there}; ls /srv/red; ls /tmp/.dotnet; "
        f"kill -9 {agent}; cat /proc/{agent}/environ"
    )
    seen = output(site, script_of("blue", look))
    assert seen[0] == "blue", seen
    assert not [line for line in seen if "secret" in line or "of-red" in line]
    assert len([line for line in seen if "Permission denied" in line]) == 4, seen
    assert [line for line in seen if "Operation not permitted" in line] != []
    names = [f"{project}{rest}" for project in ("red", "blue") for rest in ("", "@scripts")]
    units = {name: machine.properties(f"{name}.service", "MainPID", "User") for name in names}
    assert [found["User"] for found in units.values()] == ["red", "red", "blue", "blue"]
    assert len({found["MainPID"] for found in units.values()} - {"0"}) == 4, "each starts its own scripts"
    machine.run("tentacle", "service", "--instance=blue", "--restart")
    assert output(site, script_of("blue", "id -un")) == ["blue"]
    for name in names[:2]:
        assert machine.properties(f"{name}.service", "MainPID", "User") == units[name]
    (workspace / "go").touch()
    assert output(site, red) == ["red"]


def test_limits_without_root_are_kept_or_refused(site: Site) -> None:
    """Kept also for scripts that run on while the agent is started again, where this kernel has them to give."""
    configure(site, "--script-memory-limit=64M", "--script-task-limit=60", "--script-cpu-limit=50%")
    site.service("--install")
    state = restart(site)
    if "memory" not in (site.machine.root / "sys/fs/cgroup/cgroup.controllers").read_text().split():
        assert state != "active"
        said = site.machine.journal(UNIT)
        assert "A limit for scripts needs the cgroup controller 'memory', and this process cannot use it" in said
        assert "Delegate=yes" in said
        return
    told = output(site, script(site, "echo before; head -c 300M /dev/zero | tail | wc -c; echo after"))
    assert told[:2] == ["before", "The script has met its memory limit of 64 MiB: processes of it were killed."]
    task = script(site, "touch /tmp/begun; until test -e /tmp/go; do sleep 0.05; done; echo end")
    wait_until((site.machine.root / "tmp/begun").exists)
    killed = site.main_process
    site.machine.run("kill", "-KILL", str(killed))
    wait_until(lambda: site.main_process not in (0, killed) and limits_of(site.machine) == ["67108864", "60", "50000"])
    (site.machine.root / "tmp/go").touch()
    assert output(site, task) == ["end"]


def limits_of(machine: Machine) -> list[str]:
    """Those of the one script that runs."""
    groups = list((machine.root / GROUP[1:]).glob("tentacle-run-*"))
    return [_first_word(group / f"{name}.max") for group in groups for name in ("memory", "pids", "cpu")]


def _first_word(file: Path) -> str:
    return file.read_text().split()[0] if file.exists() else ""
