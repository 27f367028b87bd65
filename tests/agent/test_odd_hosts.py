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
from tests.agent.process import AgentHome, Running, Server
from tests.filter import refused
from tests.patience import PATIENCE

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
