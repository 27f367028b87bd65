"""Hosts that lack something, hide something or refuse something.

Scripts run all the same, and the log says once what is missing; or the agent does not start, and says where and why.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState, ScriptTicket
from tentacle.contracts.script_v2 import CancelScriptCommandV2, ScriptStatusResponseV2
from tentacle.settings.certificates import from_pem
from tentacle.settings.model import CommunicationStyle, TrustedServer
from tests.agent.process import TENTACLE, AgentHome, Running, Server, a_server
from tests.filter import refused
from tests.other_user import only_root
from tests.patience import PATIENCE
from tests.pki import identity, pem

OWN_MOUNTS = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
NUMBER = 54321
"""Of a user that the system does not know."""


def after(shell: str) -> tuple[str, ...]:
    """The beginning of a command that runs the rest of it where these words of a shell have changed the mounts."""
    return (*OWN_MOUNTS, "/bin/sh", "-euc", f'{shell}\nexec "$@"', "sh")


def warnings(agent: AgentHome) -> list[str]:
    """What the agent's log warns of, without time and process, and without what deployment steps would miss here."""
    lines = (agent.home / "Logs" / "OctopusTentacle.txt").read_text(encoding="utf-8").splitlines()
    said = [line.partition("  WARN  ")[2] for line in lines if "  WARN  " in line]
    return [line for line in said if not line.startswith("Steps miss ")]


async def runs_and_cancels(running: Running, server: Server) -> None:
    """One script to its end, and one that is ended with all its processes."""
    server.port = await running.port()
    ended = await server.script("echo out; exit 3", wait=PATIENCE)
    assert isinstance(ended, ScriptStatusResponseV2), ended
    assert (ended.state, ended.exit_code) == (ProcessState.COMPLETE, 3)
    assert "out" in [entry.text for entry in ended.logs]
    await server.script("sleep 600 & echo going; sleep 600", ticket="C")
    await server.said("going", "C")
    await server.answer("IScriptServiceV2", "CancelScript", CancelScriptCommandV2(ScriptTicket("C"), 0))
    assert (await server.finished("C")).exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize(
    ("calls", "told"),
    [
        ("memfd_create", ["memfd_create is refused: what a script"]),
        ("pidfd_open", ["pidfd_open is refused: processes"]),
        ("pidfd_send_signal", []),
        ("inotify_init1", ["inotify is not to be had: lines"]),
        ("prlimit64,sched_getaffinity,prctl,ioprio_get", []),
        ("statfs,fstatfs", []),
        ("flock", []),
        ("fsync", []),
        # What CIFS, exFAT and their kin cannot do.
        ("mknod,mknodat,link,linkat,symlink,symlinkat", []),
        ("chmod,fchmod,fchmodat,fchmodat2,chown,fchown,lchown,fchownat", []),
        ("openat2,statx,close_range,unshare,mount,keyctl,io_uring_setup,getxattr", []),
    ],
)
async def test_system_calls_that_are_refused(
    agent: AgentHome, server: Server, error: str, calls: str, told: list[str]
) -> None:
    running = await agent.start(wrapper=refused(error, *calls.split(",")))
    await runs_and_cancels(running, server)
    await running.stop()
    assert [line for line in warnings(agent) if not any(line.startswith(begin) for begin in told)] == []
    assert len(warnings(agent)) == len(told)


CONTAINER_RIGHTS = (
    "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod audit_write"
)
NOT_IN_CONTAINERS = (
    *("unshare", "setns", "mount", "umount2", "pivot_root", "open_tree", "move_mount", "mount_setattr"),
    *("keyctl", "add_key", "request_key", "bpf", "perf_event_open", "io_uring_setup"),
)


@only_root
async def test_what_container_engines_refuse_by_default(agent: AgentHome, server: Server) -> None:
    """Namespaces, mounts and keys with EPERM, clone3 with ENOSYS, and most of root's rights."""
    rights = ",".join(("-all", *(f"+{one}" for one in CONTAINER_RIGHTS.split())))
    filters = (*refused("ENOSYS", "clone3"), *refused("EPERM", *NOT_IN_CONTAINERS))
    running = await agent.start(wrapper=("setpriv", f"--bounding-set={rights}", "--inh-caps=-all", *filters))
    await runs_and_cancels(running, server)
    await running.stop()
    assert warnings(agent) == []


async def test_a_filter_that_lets_no_thread_be_made_is_named(agent: AgentHome) -> None:
    running = await agent.start(wrapper=refused("EPERM", "clone3"))
    code, said = await running.ended()
    assert code == 1
    assert said[0].startswith("This host lets no thread be made: ")
    assert "clone3" in said[1]


@pytest.mark.parametrize(
    ("mounts", "told"),
    [
        ("umount --lazy /proc", ["/proc is missing or masked: a cancel", "/proc hides mounts and cgroups: scripts"]),
        ("mount -t proc -o subset=pid,hidepid=2 proc /proc", []),
        ("mount --bind /dev/null /proc/cpuinfo; mount -t tmpfs tmpfs /proc/sys; mount -t tmpfs tmpfs /sys", []),
        ("mount -t tmpfs -o ro tmpfs /dev/shm", []),
        ("mkfifo odd; mount --bind odd /etc/os-release", []),
        (r"printf 'PRETTY_NAME=Caf\351\n' >odd; mount --bind odd /etc/os-release", []),
    ],
)
async def test_mounts_that_hide_something(agent: AgentHome, server: Server, mounts: str, told: list[str]) -> None:
    running = await agent.start(wrapper=after(mounts))
    await runs_and_cancels(running, server)
    # A process that /proc does not show can be told to end, but not be looked for.
    running.send(signal.SIGTERM)
    assert await running.ended() == (0, [])
    said = warnings(agent)
    assert [any(line.startswith(begin) for line in said) for begin in told] == [True] * len(told)
    assert len(said) == len(told)


async def test_a_user_without_a_name_has_a_home(agent: AgentHome, server: Server) -> None:
    for path in (agent.home, agent.config, *agent.home.iterdir()):
        os.chown(path, NUMBER, NUMBER)
    del agent.environment["HOME"]
    # Only to reach an interpreter and a directory that lie in somebody's home.
    rights = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    running = await agent.start(
        wrapper=("setpriv", f"--reuid={NUMBER}", f"--regid={NUMBER}", "--clear-groups", *rights)
    )
    server.port = await running.port()
    ended = await server.script('echo "$HOME"', wait=PATIENCE)
    assert isinstance(ended, ScriptStatusResponseV2)
    assert str(agent.home) in [entry.text for entry in ended.logs]
    assert f"The user {NUMBER} has no entry in the system's list of users" in running.said[0]
    await running.stop()


@pytest.mark.parametrize(("given", "left"), [("0000", 0o002), ("0777", 0o077), ("0022", 0o022)])
async def test_no_file_is_for_all_to_write_and_none_is_closed_to_its_owner(
    agent: AgentHome, server: Server, given: str, left: int
) -> None:
    running = await agent.start(wrapper=("/bin/sh", "-c", f'umask {given}; exec "$@"', "sh"))
    server.port = await running.port()
    ended = await server.script("umask; mkdir made; touch made/file", wait=PATIENCE)
    assert isinstance(ended, ScriptStatusResponseV2)
    assert f"{left:04o}" in [entry.text for entry in ended.logs]
    everything = [agent.home, *agent.home.rglob("*")]
    assert [path for path in everything if not path.is_symlink() and path.stat().st_mode & stat.S_IWOTH] == []
    await running.stop()


async def test_small_limits(agent: AgentHome, server: Server) -> None:
    running = await agent.start(wrapper=("prlimit", "--nofile=64", "--core=0", "--fsize=1000000", "--stack=1000000"))
    await runs_and_cancels(running, server)
    await running.stop()


async def test_where_no_script_can_run_the_agent_says_so_at_its_start(agent: AgentHome) -> None:
    """And not to every script, beside a status that is green."""
    running = await agent.start(wrapper=after("mount --bind /dev/null /bin/bash"))
    code, said = await running.ended()
    assert code == 1
    assert said[0].startswith(f"Scripts cannot be run in '{agent.home / 'Work'}': ")
    assert "/bin/bash" in said[0]
    assert said[1].startswith("Mend that, or put the instance's home elsewhere")
    await agent.gone()


READ_ONLY = "mount --bind {0} {0}; mount -o remount,bind,ro {0}"
NO_INODES = "mount -t tmpfs -o nr_inodes=2 tmpfs {0}; mkdir {0}/last"


async def ask(agent: AgentHome, *command: str) -> tuple[int | None, str]:
    """The exit code and the output of a command about this instance, where the agent's file systems are."""
    pid = agent.agents[-1].process.pid
    asked = await asyncio.create_subprocess_exec(
        *("nsenter", f"--target={pid}", "--mount", f"--net=/proc/{pid}/ns/net", *command),
        env=agent.environment,
        stdout=asyncio.subprocess.PIPE,
    )
    said = (await asked.communicate())[0].decode()
    return asked.returncode, " ".join(said.split())


@only_root
@pytest.mark.parametrize(
    ("where", "mounts", "why"),
    [
        ("Work", READ_ONLY, "Read-only file system"),
        ("Work/.runs", READ_ONLY, "Read-only file system"),
        ("Work", NO_INODES, "No space left on device"),
    ],
)
async def test_an_agent_that_can_run_no_script_is_not_healthy_until_it_can(
    agent: AgentHome, server: Server, where: str, mounts: str, why: str
) -> None:
    place = agent.home / where
    place.mkdir(parents=True)
    running = await agent.start(wrapper=after(mounts.format(place)))
    server.port = await running.port()
    assert why in getattr(await server.script("exit 3"), "message", "")
    status = (str(TENTACLE), "status", f"--config={agent.config}")
    code, said = await ask(agent, *status)
    assert code == 3
    assert "problem no script can be run: " in said
    assert f"'{place}" in said
    assert why in said
    _, said = await ask(agent, str(TENTACLE), "doctor", f"--config={agent.config}")
    assert "FAIL scripts none can be run: " in said
    assert (f"{agent.home / 'Work'} lies on a file system that is read-only" in said) == (
        where == "Work" and "R" in why
    )
    assert (await ask(agent, "umount", str(place)))[0] == 0
    ended = await server.script("exit 4", wait=PATIENCE, ticket="N")
    assert isinstance(ended, ScriptStatusResponseV2), ended
    assert ended.exit_code == 4
    assert (await ask(agent, *status))[0] == 0
    running.send(signal.SIGTERM)
    code, told = await running.ended()
    assert code == 0
    assert len([line for line in told if line.startswith("No script can be run now: ")]) == 1


@only_root
async def test_nor_is_one_whose_disk_keeps_nothing(agent: AgentHome, server: Server) -> None:
    running = await agent.start(wrapper=refused("EIO", "fsync"))
    server.port = await running.port()
    assert "Input/output error" in getattr(await server.script("exit 3"), "message", "")
    code, said = await ask(agent, str(TENTACLE), "status", f"--config={agent.config}")
    assert code == 3
    assert f"no script can be run: nothing can be made in '{agent.home / 'Work'}': Input/output error" in said
    running.send(signal.SIGTERM)
    assert (await running.ended())[0] == 0


@only_root
@pytest.mark.parametrize(
    ("mounts", "why", "advice"),
    [
        (READ_ONLY, "cannot use the home directory {0}: Read-only file system", "mount its file system for writing"),
        (
            "cp -a {0} {0}-2; mount -t tmpfs -o nr_inodes=9 tmpfs {0}; cp -a {0}-2/. {0}; "
            "cd {0}; while mkdir d; do cd d; done",
            "cannot use the home directory {0}: No space left on device",
            "make room on its file system; files need inodes too",
        ),
        (
            "mount -t tmpfs tmpfs /dev",
            "The process that starts scripts could not be started: No such file or directory (/dev/null)",
            "Mount /dev, or make the device: mknod",
        ),
    ],
    ids=["read-only", "no inodes", "no devices"],
)
async def test_an_agent_that_cannot_work_at_all_says_why(agent: AgentHome, mounts: str, why: str, advice: str) -> None:
    running = await agent.start(wrapper=after(f"{{ {mounts.format(agent.home)}; }} 2>/dev/null"))
    code, said = await running.ended()
    assert (code, said[0]) == (1, why.format(agent.home))
    assert said[1].startswith(advice)
    await agent.gone()


@only_root
async def test_a_log_that_cannot_be_written_is_told_once_elsewhere(agent: AgentHome, server: Server) -> None:
    logs = agent.home / "Logs"
    logs.mkdir()
    running = await agent.start(wrapper=after(READ_ONLY.format(logs)))
    await runs_and_cancels(running, server)
    running.send(signal.SIGTERM)
    assert (await running.ended())[0] == 0
    told = [line for line in running.said if "Nothing is written to the log file" in line]
    assert told == [f"Nothing is written to the log file '{logs}/OctopusTentacle.txt'. Read-only file system"]


@only_root
async def test_it_starts_before_there_is_a_network_and_is_reached_once_there_is(agent: AgentHome) -> None:
    running = await agent.start(wrapper=("unshare", "--net"))
    port = await running.port()
    reach = ("/bin/bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}")
    assert (await ask(agent, *reach))[0] == 1
    assert (await ask(agent, str(TENTACLE), "status", f"--config={agent.config}"))[0] == 0
    assert (await ask(agent, "ip", "link", "set", "lo", "up"))[0] == 0
    assert (await ask(agent, *reach))[0] == 0
    await running.stop()


@pytest.mark.parametrize(("ours", "theirs"), [((2001, 2002), (2100, 2101)), ((2100, 2101), (2001, 2002))])
async def test_the_dates_of_certificates_keep_nobody_away(
    agent: AgentHome, tmp_path: Path, ours: tuple[int, int], theirs: tuple[int, int]
) -> None:
    """Here or there: a clock may be wrong, and the thumbprint is what counts."""
    own = identity("server", theirs)
    trusted = TrustedServer(own.thumbprint, CommunicationStyle.TENTACLE_PASSIVE)
    agent.set(certificate=from_pem(*pem("agent", ours)), servers=(trusted,))
    async with a_server(tmp_path, own) as server:
        server.agent = identity("agent", ours).thumbprint
        running = await agent.start()
        server.port = await running.port()
        ended = await server.script("exit 3", wait=PATIENCE)
        assert isinstance(ended, ScriptStatusResponseV2), ended
        assert ended.exit_code == 3
        await running.stop()
    (told,) = warnings(agent)
    assert told.startswith(f"The certificate {server.agent} ")
    assert ("has expired on 2002-01-01" in told) == (ours[0] == 2001)
    assert ("is not valid before 2100-01-01; is this machine's clock right?" in told) == (ours[0] == 2100)


async def test_what_deployment_steps_miss_here_is_in_the_log_of_the_start(agent: AgentHome, tmp_path: Path) -> None:
    """Without openssl Calamari's bash steps run with every variable empty, and end with 0."""
    agent.environment["PATH"] = str(tmp_path)
    running = await agent.start()
    assert "variable" in await running.until("Steps miss 'openssl'")
    await running.stop()


async def test_as_the_first_process_of_a_container_it_ends_what_it_cannot_leave_to_anybody(
    agent: AgentHome, server: Server
) -> None:
    agent.environment["TENTACLE_DRAIN_TIMEOUT"] = "00:00:00.1"
    alone = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *OWN_MOUNTS[2:])
    running = await agent.start(wrapper=alone)
    server.port = await running.port()
    await server.script("echo going; sleep 600")
    await server.said("going")
    process = running.process.pid
    first = int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])
    os.kill(first, signal.SIGTERM)
    await running.until("Cancelling 1 script(s) that still run: T")
    assert await running.ended() == (0, [])
    async with asyncio.timeout(PATIENCE):
        await agent.gone()
    running = await agent.start()
    server.port = await running.port()
    assert (await server.status()).exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    await running.stop()
