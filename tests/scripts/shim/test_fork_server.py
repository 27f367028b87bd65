"""The small process that starts scripts: what it costs, what it shows, and how it is asked."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tentacle.scripts.launch.fork_server_client import send_order
from tentacle.scripts.launch.fork_servers import _PROGRAM, _ROOT
from tentacle.scripts.sandbox.cgroups import ScriptLimits
from tentacle.scripts.shim.fork_messages import ANSWER, QUESTION
from tentacle.scripts.shim.process_tree import is_alive
from tentacle.scripts.shim.run_cgroup import RunCgroup
from tentacle.scripts.shim.run_order import RunOrder
from tests.patience import PATIENCE
from tests.scripts.lab import Lab, lines, until
from tests.scripts.sandboxes import SANDBOXES, cgroup_parents, options

ORDER = RunOrder("/nowhere/run", "/nowhere/log", "/nowhere", "/nowhere/script", (), {}, "", (), 1.0)


@pytest.mark.parametrize(
    "name",
    ["USR1", "ALRM", "PROF", "HUP", "INT", "QUIT", "TSTP", "TTIN", "XCPU", "XFSZ", "SYS", "SEGV", "RTMIN", "RTMAX"],
)
async def test_no_signal_that_can_be_ignored_ends_a_shim(lab: Lab, name: str) -> None:
    status = await lab.run(f"kill -{name} $PPID; echo still; exit 4")
    assert (status.exit_code, lines(status)) == (4, ["still"])


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_it_is_small(lab: Lab) -> None:
    await lab.run("true")
    server = lab.engine._fork_server.pid
    maps = Path(f"/proc/{server}/maps").read_text()
    assert "libssl" not in maps
    assert "_rust" not in maps, "cryptography has no business there"
    status = dict(line.split(":", 1) for line in Path(f"/proc/{server}/status").read_text().splitlines())
    assert int(status["VmRSS"].split()[0]) < 24_000


async def test_it_ends_with_its_agent_and_leaves_no_zombie(lab: Lab) -> None:
    server = lab.engine._fork_server.pid
    assert server is not None
    assert lines(await lab.run("echo one")) == ["one"]
    (shim,) = children(server)
    await lab.engine.aclose()
    assert not Path(f"/proc/{server}").exists()
    await until(lambda: not is_alive(shim))


async def test_the_processes_can_be_told_apart(lab: Lab) -> None:
    await lab.start("echo ready; sleep 600")
    await lab.started()
    server = lab.engine._fork_server.pid
    assert server is not None
    (shim,) = children(server)
    assert Path(f"/proc/{server}/comm").read_text() == "tentacle-fork\n"
    assert Path(f"/proc/{shim}/comm").read_text() == "tentacle-shim\n"
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(shim, number)
    assert Path(f"/proc/{shim}").exists()


async def test_a_shim_that_cannot_be_born_in_a_cgroup_is_born_outside_it(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(options(SANDBOXES["cgroup"]))
    await lab.engine.start()
    lab.engine._context.sandbox.shim_cgroup = lambda: "/nowhere/at/all"  # type: ignore[method-assign]
    assert lines(await lab.run("grep -c tentacle-run /proc/self/cgroup")) == ["1"]


# The conversation itself.


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A fork server, and the socket over which it is asked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(PATIENCE)
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(theirs.fileno()), str(_ROOT)]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), cwd="/")
        theirs.close()
        yield process, ours
    assert process.wait(PATIENCE) == 0


def asked(server: socket.socket, cgroup: str = "") -> tuple[int, socket.socket]:
    """The answer, and our end of the connection to the shim."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.settimeout(PATIENCE)
        send_order(server, QUESTION + cgroup.encode(), ORDER, theirs)
        (answer,) = ANSWER.unpack(server.recv(ANSWER.size))
    return answer, ours


async def test_every_request_has_one_answer_and_a_shim_whose_run_is_gone_takes_no_other(
    server: tuple[subprocess.Popen[bytes], socket.socket],
) -> None:
    process, agent = server
    pids = []
    for _ in range(3):
        pid, connection = asked(agent)
        with connection:
            assert connection.recv(16) == b"", "it is not free: it has ended"
        pids.append(pid)
    assert len({pid for pid in pids if pid > 1}) == 3
    await until(lambda: children(process.pid) == [])


def test_the_cgroup_of_a_shim_is_made_for_it_and_removed_by_it(
    server: tuple[subprocess.Popen[bytes], socket.socket],
) -> None:
    directory = Path(f"{cgroup_parents().unified}/tentacle-run-test-{os.getpid()}")
    process, agent = server
    os.kill(process.pid, signal.SIGSTOP)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        send_order(agent, QUESTION + os.fsencode(directory), ORDER, theirs)
        theirs.close()
        assert not directory.exists()
        os.kill(process.pid, signal.SIGCONT)
        assert ANSWER.unpack(agent.recv(ANSWER.size))[0] > 1
        assert ours.recv(16) == b""
    deadline = time.monotonic() + PATIENCE
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not directory.exists()


def test_a_shim_that_cannot_be_made_is_told_by_the_number_of_the_error(
    server: tuple[subprocess.Popen[bytes], socket.socket],
) -> None:
    process, agent = server
    limits = ScriptLimits(tasks=1)
    full = RunCgroup(cgroup_parents(limits).order(f"full-{os.getpid()}", limits))
    full.make()
    outside = Path("/proc/self/cgroup").read_text()
    try:
        for directory in full._order.directories:
            Path(directory, "cgroup.procs").write_text(str(process.pid))
        answer, connection = asked(agent)
        connection.close()
        assert answer == -errno.EAGAIN
        assert process.poll() is None, "it goes on"
    finally:
        process.kill()
        process.wait()
        process.returncode = 0
        full.remove()
    assert Path("/proc/self/cgroup").read_text() == outside


@pytest.mark.parametrize("unread", [True, False])
def test_it_ends_when_nobody_can_ask_any_more(
    server: tuple[subprocess.Popen[bytes], socket.socket], unread: bool
) -> None:
    process, agent = server
    if unread:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            send_order(agent, QUESTION, ORDER, theirs)
            theirs.close()
            assert ours.recv(16) == b""
    agent.close()
    assert process.wait(PATIENCE) == 0
