"""The service that starts scripts for an agent that is confined: reached by a socket, ended and started at any time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.contracts.script import ProcessState
from tentacle.scripts.errors import LaunchError
from tentacle.scripts.launch.fork_servers import launcher_command
from tentacle.scripts.sandbox.cgroups import ScriptLimits
from tentacle.scripts.sandbox.sandbox import SandboxOptions
from tentacle.scripts.shim.fork_messages import ANSWER, WHO
from tentacle.scripts.shim.launcher import cgroups_of
from tentacle.scripts.shim.run_cgroup import RunCgroup
from tests.patience import PATIENCE
from tests.scripts.lab import QUICK, Lab, lines, until
from tests.scripts.launch.test_shim_guard import CHANGES
from tests.scripts.sandboxes import cgroup_parents

NOBODY = 65534


class Manager:
    """What systemd is for the launcher: has the socket, and starts it again whenever it ends, here when it is asked."""

    def __init__(self, directory: Path, *, apart: bool = False) -> None:
        self.path = directory / "launcher.sock"
        self._apart = apart
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(self.path))
        self._socket.listen()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, cgroup: RunCgroup | None = None) -> int:
        """Starts it, in the cgroup if there is one; returns its number."""
        descriptor = self._socket.fileno()
        command = launcher_command(descriptor, apart=self._apart)
        if cgroup is not None:
            command = ["sh", "-c", 'echo 0 >"$0" && exec "$@"', f"{cgroup.directory}/cgroup.procs", *command]
        self._process = subprocess.Popen(command, pass_fds=(descriptor,), cwd="/", start_new_session=True)
        return self._process.pid

    async def replace(self) -> int:
        """Waits until it has ended, and starts it again."""
        assert self._process is not None
        assert await asyncio.to_thread(self._process.wait, PATIENCE) != 0
        return self.start()

    def close(self) -> None:
        self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where sockets have short paths."""
    made = Path(tempfile.mkdtemp(prefix="launcher-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def manager(directory: Path) -> Iterator[Manager]:
    made = Manager(directory)
    yield made
    made.close()


@pytest.fixture
async def lab(manager: Manager, new_lab: Callable[..., Lab]) -> Lab:
    """A laboratory whose scripts are started by the launcher."""
    manager.start()
    made = new_lab(replace(QUICK, launcher=manager.path))
    await made.engine.start()
    return made


def parent(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_scripts_are_no_descendants_of_the_agent(lab: Lab) -> None:
    await lab.start("echo ready; sleep 600")
    await lab.started()
    launcher = lab.engine._fork_server.pid
    assert parent(lab.shim()) == launcher
    assert Path(f"/proc/{launcher}/comm").read_text() == "tentacle-launch\n"
    held = {os.readlink(entry) for entry in Path(f"/proc/{lab.shim()}/fd").iterdir()}  # noqa: PTH115
    doors = {os.readlink(entry) for entry in Path(f"/proc/{launcher}/fd").iterdir()}  # noqa: PTH115
    assert not {one for one in held & doors if one.startswith("socket:")}, "a shim has a way back in"


async def test_a_launcher_that_is_killed_costs_no_script(lab: Lab, manager: Manager) -> None:
    await lab.start("echo ready; until test -e go; do sleep 0.01; done; echo end; exit 3", "T-1")
    await lab.started("T-1")
    launcher = lab.engine._fork_server.pid
    assert launcher is not None
    os.kill(launcher, signal.SIGKILL)
    following = await manager.replace()
    await until(lambda: lab.engine._fork_server.pid == following)
    assert lines(await lab.run("echo two", "T-2")) == ["two"]
    (lab.work / "T-1/go").touch()
    status = await lab.ended("T-1")
    assert (lines(status), status.exit_code) == (["ready", "end"], 3)


async def test_the_limits_of_a_script_are_set_again_when_another_launcher_is_found(
    manager: Manager, new_lab: Callable[..., Lab]
) -> None:
    """Between two of them an old systemd takes away what limits are made of."""
    manager.start()
    lab = new_lab(replace(QUICK, launcher=manager.path, sandbox=SandboxOptions(limits=ScriptLimits(tasks=64))))
    await lab.engine.start()
    await lab.start("echo ready; sleep 600")
    await lab.started()
    (run,) = lab.engine.unended()
    cgroup = lab.engine._context.sandbox._cgroup(run.files)
    assert cgroup is not None
    limit = Path(cgroup.directories[cgroup.limits[0].directory], "pids.max")
    assert limit.read_text() == "64\n"
    limit.write_text("max\n")
    os.kill(lab.engine._fork_server.pid or 0, signal.SIGKILL)
    await manager.replace()
    await until(lambda: limit.read_text() == "64\n")


@pytest.mark.parametrize("change", CHANGES)
async def test_what_a_script_does_to_the_launcher_costs_no_other_script(
    lab: Lab, manager: Manager, change: str
) -> None:
    seen = "ulimit -a; nice"
    before = lines(await lab.run(seen))
    lab.engine._shims.close()
    server = lab.engine._fork_server.pid
    subprocess.run([word.replace("PID", str(server)) for word in CHANGES[change]], check=True, stdout=-3)  # noqa: ASYNC221
    again = None if change == "stopped" else asyncio.create_task(manager.replace())
    status = await lab.run(seen, "T-2")
    assert (status.state, status.exit_code) == (ProcessState.COMPLETE, 0)
    assert lines(status) == before
    if again is not None:
        await again


async def test_the_next_agent_finds_the_same_launcher_and_the_scripts(
    lab: Lab, manager: Manager, new_lab: Callable[..., Lab]
) -> None:
    await lab.start("echo ready; sleep 0.2; echo end")
    await lab.started()
    launcher = lab.engine._fork_server.pid
    await lab.engine.aclose()
    second = new_lab(replace(QUICK, launcher=manager.path))
    await second.engine.start()
    assert second.engine._fork_server.pid == launcher
    assert lines(await second.ended()) == ["ready", "end"]
    assert lines(await second.run("echo two", "T-2")) == ["two"]


async def test_an_agent_without_its_launcher_says_which_one_is_missing(directory: Path, tmp_path: Path) -> None:
    lab = Lab(tmp_path / "Work", replace(QUICK, launcher=directory / "none.sock"))
    with pytest.raises(LaunchError, match=r"cannot be reached at '.*none.sock': No such file") as told:
        await lab.engine.start()
    assert "systemctl status" in str(told.value.hint)
    await lab.engine.aclose()


# Who may ask.

ASK = """import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(float(sys.argv[2]))
s.connect(sys.argv[1])
try:
    s.send(b"who")
    print(len(s.recv(16)))
except (ConnectionResetError, BrokenPipeError): print(0)
"""


def asked(path: Path, *before: str) -> str:
    """How many bytes another process gets as an answer; `before` goes before its command."""
    command = [*before, sys.executable, "-I", "-c", ASK, str(path), str(PATIENCE)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE, cwd="/").stdout.strip()


def test_no_other_account_may_ask(manager: Manager) -> None:
    manager.start()
    manager.path.chmod(0o777)
    other = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    python = ("/usr/bin/python3", "-I", "-c", ASK, str(manager.path), str(PATIENCE))
    done = subprocess.run([*other, *python], check=True, capture_output=True, text=True, timeout=PATIENCE, cwd="/")
    assert done.stdout.strip() == "0"
    assert asked(manager.path) == str(ANSWER.size)


async def test_no_script_may_ask_for_what_its_sandbox_takes_from_it(directory: Path) -> None:
    manager = Manager(directory, apart=True)
    of_the_unit = RunCgroup(cgroup_parents().order(f"launcher-{os.getpid()}", ScriptLimits()))
    of_the_unit.make()
    try:
        manager.start(of_the_unit)
        assert asked(manager.path) == str(ANSWER.size)
        inside = ("sh", "-c", 'echo 0 >"$0" && exec "$@"', f"{of_the_unit.directory}/cgroup.procs")
        assert asked(manager.path, *inside) == "0"
        below = Path(of_the_unit.directory, "tentacle-run-x")
        below.mkdir()
        assert asked(manager.path, "sh", "-c", 'echo 0 >"$0" && exec "$@"', f"{below}/cgroup.procs") == "0"
        below.rmdir()
    finally:
        manager.close()
        of_the_unit.remove()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"0::/system.slice/a.service\n", {b"": b"/system.slice/a.service"}),
        (b"9:name=systemd:/x:y\n8:pids:/z\n0::/\n", {b"name=systemd": b"/x:y", b"": b"/"}),
        (b"1:cpu,cpuacct:/x\n", {}),
        (b"nonsense", {}),
        (b"", {}),
    ],
)
def test_only_the_cgroups_count_by_which_systemd_knows_a_process(text: bytes, found: dict[bytes, bytes]) -> None:
    assert cgroups_of(text) == found


def test_what_is_no_question_ends_that_connection_and_no_other(manager: Manager) -> None:
    manager.start()
    with contextlib.ExitStack() as stack:
        good, bad = (stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(2))
        for one in (good, bad):
            one.settimeout(PATIENCE)
            one.connect(str(manager.path))
        bad.send(b"run")
        assert bad.recv(16) == b""
        good.send(WHO)
        assert len(good.recv(16)) == ANSWER.size
