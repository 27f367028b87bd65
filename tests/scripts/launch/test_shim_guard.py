"""A script that signals, stops, freezes or starves its shim, or another one, costs its own run at most."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState, ScriptIsolationLevel
from tentacle.scripts.launch import shim_guard
from tentacle.scripts.run import ASKED_BY_OTHERS, LOST, UNWATCHED_CANCEL
from tentacle.scripts.shim.process_tree import is_alive
from tests.scripts.lab import Lab, lines, until
from tests.scripts.sandboxes import SANDBOXES, living, options

FULL = ScriptIsolationLevel.FULL_ISOLATION
GO = "echo ready; until [ -e go ]; do sleep 0.01; done"
"""A line that is in the log for sure, although the shim may never write again."""
OWN_CGROUP = "$(sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \\([^ ]*\\) .* - cgroup2 .*/\\1/p' /proc/self/mountinfo | head -1)"
OWN_CGROUP += "$(sed -n 's/^0:://p' /proc/self/cgroup)"
STOP = "trap '' TERM; while kill -STOP $1; do :; done"
ATTACKS = {
    "again and again": f"set -- $PPID; {STOP}; exec sleep 600",
    "from a process without its environment": (
        f"cat >stop <<'END'\n{STOP}\nEND\n(setsid env -i bash stop $PPID $0 &); exec sleep 600"
    ),
}


@pytest.fixture(params=["tree", "cgroup"])
async def sandboxed(request: pytest.FixtureRequest, new_lab: Callable[..., Lab]) -> Lab:
    lab = new_lab(options(SANDBOXES[request.param]))
    await lab.engine.start()
    return lab


@pytest.fixture
async def in_cgroup(new_lab: Callable[..., Lab]) -> Lab:
    lab = new_lab(options(SANDBOXES["cgroup"]))
    await lab.engine.start()
    return lab


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent looks after its shims more often than every few seconds."""
    monkeypatch.setattr(shim_guard, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(shim_guard, "CANCEL_LOOK_SECONDS", 0.2)


async def attack(lab: Lab, body: str) -> None:
    await lab.start(f"{GO}; {body}", isolation=FULL)
    await lab.started()
    (lab.work / "T-1" / "go").touch()


async def freeze(cgroup: str) -> None:
    """Freezes the cgroup; returns when it is."""
    Path(cgroup, "cgroup.freeze").write_text("1")
    await until(lambda: "frozen 1" in Path(cgroup, "cgroup.events").read_text())


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("name", ATTACKS)
async def test_a_shim_that_is_kept_stopped_holds_up_no_cancel(sandboxed: Lab, name: str) -> None:
    await attack(sandboxed, ATTACKS[name])
    shim = sandboxed.shim()
    assert shim is not None
    # It is woken now and then, and stopped again.
    await until(lambda: shim_guard.is_stopped(shim))
    await check_cancel(sandboxed)


TRACER = """
import ctypes, os, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, CONT = 0x4206, 7
if ptrace(SEIZE, int(sys.argv[1]), None, None) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
print("ready", flush=True)
while True:
    pid, status = os.waitpid(-1, 0x40000000)
    # Signal 0: whatever was on its way to the process is lost.
    ptrace(CONT, pid, None, None)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="where Yama is in force, only root may trace its parent")
@pytest.mark.usefixtures("often")
async def test_a_shim_that_no_signal_reaches_although_it_works_on_holds_up_no_cancel(
    sandboxed: Lab, tmp_path: Path
) -> None:
    """It is traced, and moves the output of its script all the time."""
    (tmp_path / "tracer.py").write_text(TRACER)
    trace = f"{sys.executable} {tmp_path}/tracer.py $PPID & trap '' TERM; while sleep 0.05; do echo more; done"
    await sandboxed.start(trace, isolation=FULL)
    await sandboxed.started()
    shim = sandboxed.shim()
    assert shim is not None
    assert not shim_guard.takes_sigterm(shim)
    await check_cancel(sandboxed)


@pytest.mark.usefixtures("often")
async def test_a_frozen_shim_holds_up_no_cancel(in_cgroup: Lab) -> None:
    await in_cgroup.start(f"echo {OWN_CGROUP}; echo ready; sleep 600", isolation=FULL)
    await in_cgroup.started()
    status = await in_cgroup.engine.status("T-1", 0)
    assert status is not None
    await freeze(status.entries[6].text)
    await check_cancel(in_cgroup)
    status = await in_cgroup.engine.status("T-1", 0)
    assert status is not None
    assert status.entries[-1].text == UNWATCHED_CANCEL


async def check_cancel(lab: Lab) -> None:
    """Everything ends, the answer is the one of a cancel, and the mutex comes back."""
    shim = lab.shim()
    assert shim is not None
    await lab.engine.cancel("T-1", 0)
    assert (await lab.ended()).exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    assert lab.alive() == []
    assert living(str(lab.work)) == []
    await until(lambda: not is_alive(shim))
    assert lines(await lab.run("echo fine", "T-2", isolation=FULL)) == ["fine"]


@pytest.mark.usefixtures("often")
async def test_a_stopped_shim_is_woken_without_any_cancel(sandboxed: Lab) -> None:
    await attack(sandboxed, "kill -STOP $PPID; echo more; exit 7")
    status = await sandboxed.ended()
    assert (lines(status), status.exit_code) == (["ready", "more"], 7)


async def test_a_script_that_kills_its_shim_is_ended_and_its_end_is_unknown(sandboxed: Lab) -> None:
    await attack(sandboxed, "(setsid sleep 600 &); kill -9 $PPID; sleep 600")
    status = await sandboxed.ended()
    assert (status.exit_code, status.entries[-1].text) == (ScriptExitCode.UNKNOWN_RESULT, LOST)
    assert sandboxed.alive() == []
    assert lines(await sandboxed.run("echo fine", "T-2", isolation=FULL)) == ["fine"]


async def test_no_process_leaves_the_cgroup_of_a_script_by_hiding(in_cgroup: Lab) -> None:
    """Where there is a cgroup, a script that kills its shim cannot hide by a new session and an empty environment."""
    hidden = "(setsid env -i bash -c 'sleep 600; :' $0 &) ; (setsid env -i bash -c 'sleep 600; :' $0 &)"
    await attack(in_cgroup, f"{hidden}; kill -9 $PPID")
    assert (await in_cgroup.ended()).exit_code == ScriptExitCode.UNKNOWN_RESULT
    assert living(str(in_cgroup.work)) == []


async def test_a_script_that_asks_its_shim_to_end_is_cancelled_and_the_log_says_by_whom(sandboxed: Lab) -> None:
    await attack(sandboxed, "kill $PPID; sleep 600")
    status = await sandboxed.ended()
    assert (status.exit_code, status.entries[-1].text) == (ScriptExitCode.CANCELLED_WHILE_RUNNING, ASKED_BY_OTHERS)
    assert sandboxed.alive() == []


@pytest.mark.parametrize("limit", ["nofile", "fsize", "as", "nproc", "sigpending"])
async def test_no_limit_that_a_script_puts_on_its_shim_holds_up_a_cancel(sandboxed: Lab, limit: str) -> None:
    await attack(sandboxed, f"prlimit --pid $PPID --{limit}=0; echo more; touch done; sleep 600")
    await until((sandboxed.work / "T-1" / "done").exists)
    await check_cancel(sandboxed)


async def test_a_soft_limit_that_a_script_puts_on_its_shim_costs_nothing(sandboxed: Lab) -> None:
    await attack(sandboxed, "prlimit --pid $PPID --fsize=0: --nofile=0:; exit 3")
    assert (await sandboxed.ended()).exit_code == 3


async def test_a_script_whose_run_file_was_cut_is_not_run_twice(sandboxed: Lab) -> None:
    ran = sandboxed.work.parent / "ran"
    await attack(sandboxed, f"echo run >>{ran}; : >{sandboxed.run_path()}; kill -9 $PPID; sleep 600")
    assert (await sandboxed.ended()).exit_code == ScriptExitCode.UNKNOWN_RESULT
    assert ran.read_text() == "run\n"


async def test_an_idle_shim_that_was_stopped_takes_the_next_run(lab: Lab) -> None:
    await lab.run("true")
    (shim,) = lab.engine._shims._idle
    shim.send(signal.SIGSTOP)
    await until(lambda: shim_guard.is_stopped(shim.pid))
    status = await lab.run("echo $PPID", "T-2")
    assert (status.state, lines(status)) == (ProcessState.COMPLETE, [str(shim.pid)])


@pytest.mark.usefixtures("often")
async def test_an_idle_shim_that_does_not_begin_is_replaced(in_cgroup: Lab) -> None:
    (cgroup,) = lines(await in_cgroup.run(f"echo {OWN_CGROUP}"))
    (shim,) = in_cgroup.engine._shims._idle
    await freeze(cgroup)
    status = await in_cgroup.run("echo $PPID", "T-2")
    assert status.state is ProcessState.COMPLETE
    assert lines(status) != [str(shim.pid)]
    await until(lambda: not is_alive(shim.pid))


CHANGES = {
    "stopped": ("kill", "-STOP", "PID"),
    "killed": ("kill", "-KILL", "PID"),
    "without descriptors": ("prlimit", "--pid", "PID", "--nofile=0"),
    "with other limits": ("prlimit", "--pid", "PID", "--stack=1000000:2000000"),
    "less important": ("renice", "-n", "5", "-p", "PID"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_a_script_does_to_the_fork_server_costs_no_other_script(lab: Lab, change: str) -> None:
    seen = "ulimit -a; nice"
    before = lines(await lab.run(seen))
    lab.engine._shims.close()
    server = lab.engine._fork_server.pid
    assert server is not None
    subprocess.run(  # noqa: ASYNC221 - it takes a millisecond
        [word.replace("PID", str(server)) for word in CHANGES[change]], check=True, stdout=subprocess.DEVNULL
    )
    status = await lab.run(seen, "T-2")
    assert (status.state, status.exit_code) == (ProcessState.COMPLETE, 0)
    assert lines(status) == before


def test_what_is_asked_of_a_process_that_has_ended_has_an_answer() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert not shim_guard.is_stopped(process.pid)
    assert not shim_guard.takes_sigterm(process.pid)
