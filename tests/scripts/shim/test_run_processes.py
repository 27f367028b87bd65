"""Whatever a script does to be forgotten: nothing of it survives a cancel, with a cgroup and without."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState
from tentacle.scripts.sandbox.cgroups import PREFIX
from tentacle.scripts.shim.run_processes import MARK, RunProcesses, real_and_saved_uids
from tests.patience import PATIENCE
from tests.scripts.lab import Lab, lines, until
from tests.scripts.sandboxes import SANDBOXES, cgroup_parents, living, options, own_uids

HIDERS = {
    "clears its environment": "env -i setsid sleep N & echo ready; wait",
    "clears its environment and forks twice": "( env -i setsid setsid sleep N >/dev/null 2>&1 & ); echo ready; sleep N",
    "nohup": "nohup sleep N >/dev/null 2>&1 & disown; echo ready; sleep N",
    "ignores TERM": "trap '' TERM; setsid env -i sleep N & echo ready; while :; do sleep N; done",
    "stopped, and its child too": "sleep N & kill -STOP $!; echo ready; kill -STOP $$",
    # About a hundred forks a second, and never longer than it takes to cancel.
    "forks while it is killed": (
        "trap '' TERM; ulimit -u 4000; echo ready; "
        "for i in {1..300}; do env -i setsid sleep N & read -t 0.01 </dev/zero; done; wait"
    ),
}


def sleeping(environment: dict[str, str], uid: int | None = None) -> subprocess.Popen[bytes]:
    """A process that is no child of any script, once /proc tells what it is: a little later than `Popen` returns."""
    process = subprocess.Popen(["/bin/sleep", "600"], env=environment, user=uid, group=uid, start_new_session=True)
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"/bin/sleep"):
        time.sleep(0.001)
    return process


@pytest.fixture
async def sandboxed(request: pytest.FixtureRequest, new_lab: Callable[..., Lab]) -> AsyncIterator[Lab]:
    """A lab whose scripts run in the sandbox that the test names."""
    sandbox = SANDBOXES[request.param]
    if sandbox.use_cgroup:
        cgroup_parents()
    lab = new_lab(options(sandbox))
    await lab.engine.start()
    yield lab


@pytest.mark.parametrize("sandboxed", ["tree", "cgroup", "private"], indirect=True)
@pytest.mark.parametrize("name", HIDERS)
async def test_no_process_hides(sandboxed: Lab, name: str) -> None:
    token = f"600.{random.randrange(10**9):09}"
    await sandboxed.start(HIDERS[name].replace("sleep N", f"sleep {token}"))
    await sandboxed.started()
    assert living(token, str(sandboxed.work))
    await sandboxed.engine.cancel("T-1", 0)
    status = await sandboxed.ended()
    assert status.exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    assert living(token, str(sandboxed.work)) == []


@pytest.mark.parametrize("sandboxed", ["tree", "cgroup"], indirect=True)
async def test_a_thousand_children(sandboxed: Lab) -> None:
    token = f"600.{random.randrange(10**9):09}"
    await sandboxed.start(f"trap '' TERM; for i in {{1..1000}}; do sleep {token} & done; echo ready; wait")
    await sandboxed.until("T-1", lambda status: "ready" in [e.text for e in status.entries])
    # The last ones may not be what they will be yet.
    await until(lambda: len(living(token)) == 1000)
    await sandboxed.engine.cancel("T-1", 0)
    await sandboxed.ended("T-1")
    assert living(token, str(sandboxed.work)) == []


@pytest.mark.parametrize("sandboxed", ["tree", "cgroup", "private"], indirect=True)
async def test_cancelled_before_it_exists_twice_and_after_the_end(sandboxed: Lab) -> None:
    for number in range(4):
        ticket = f"T-{number}"
        await sandboxed.start("sleep 600", ticket)
        for _ in range(2):
            await sandboxed.engine.cancel(ticket, 0)
        status = await sandboxed.ended(ticket)
        assert status.exit_code in (ScriptExitCode.CANCELLED_WHILE_RUNNING, ScriptExitCode.CANCELLED)
        assert await sandboxed.engine.cancel(ticket, 0) == status
    assert living(str(sandboxed.work)) == []


@pytest.mark.parametrize("sandboxed", ["tree", "cgroup"], indirect=True)
async def test_what_another_process_has_started_for_the_script_is_found_by_its_mark(sandboxed: Lab) -> None:
    await sandboxed.start(f"echo ${MARK}; echo ready; sleep 600")
    await sandboxed.started()
    status = await sandboxed.engine.status("T-1", 0)
    assert status is not None
    mark = status.entries[-2].text
    assert len(mark) == 32
    with sleeping({MARK: mark}) as stray:
        await sandboxed.engine.cancel("T-1", 0)
        await sandboxed.ended()
        assert stray.wait(PATIENCE) == -signal.SIGTERM


@pytest.mark.parametrize("sandboxed", ["cgroup"], indirect=True)
async def test_a_process_moved_into_the_cgroup_belongs_to_the_script(sandboxed: Lab) -> None:
    await sandboxed.start("cat /proc/self/cgroup; echo ready; sleep 600")
    await sandboxed.started()
    status = await sandboxed.engine.status("T-1", 0)
    assert status is not None
    (own,) = (entry.text for entry in status.entries if entry.text.startswith("0::"))
    group = Path(str(cgroup_parents().unified)) / own.rpartition("/")[2]
    with sleeping({}) as guest:
        (group / "cgroup.procs").write_text(str(guest.pid))
        await sandboxed.engine.cancel("T-1", 0)
        await sandboxed.ended()
        assert guest.wait(PATIENCE) == -signal.SIGTERM
    await until(lambda: not group.exists())


@pytest.mark.parametrize("sandboxed", ["tree", "cgroup"], indirect=True)
async def test_what_outlives_its_shim_is_ended_before_the_mutex_is_released(sandboxed: Lab) -> None:
    await sandboxed.start("setsid sleep 600 & echo ready; sleep 600")
    await sandboxed.started()
    shim = sandboxed.shim()
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    assert (await sandboxed.ended()).exit_code == ScriptExitCode.UNKNOWN_RESULT
    assert sandboxed.alive() == []


@pytest.mark.parametrize("sandboxed", ["cgroup"], indirect=True)
async def test_the_shim_is_born_in_the_cgroup_of_its_script(sandboxed: Lab) -> None:
    await sandboxed.run("cat /proc/self/cgroup /proc/$PPID/cgroup")
    status = await sandboxed.engine.status("T-1", 0)
    assert status is not None
    own, above = (entry.text for entry in status.entries if entry.text.startswith("0::"))
    group = Path(str(cgroup_parents().unified)) / own.rpartition("/")[2]
    assert own == above
    assert group.name.startswith(PREFIX)
    await sandboxed.engine.aclose()
    await until(lambda: not group.exists())


async def test_killing_gives_up_after_its_time_and_returns_the_processes_left() -> None:
    mark = uuid4().hex
    with sleeping({MARK: mark}) as child:
        try:
            assert RunProcesses(None, mark).kill(lambda: None, -1) == [child.pid]
            assert RunProcesses(None, mark).find_all() == [child.pid]
            assert RunProcesses(None, "other").find_all() == []
        finally:
            child.kill()
    assert RunProcesses(None, mark).find_all() == []


async def test_the_users_of_a_process_are_read() -> None:
    assert real_and_saved_uids(os.getpid()) == (os.getuid(),) * 3
    assert real_and_saved_uids(2**30) == ()


async def test_what_a_script_leaves_on_purpose_lives_on_and_its_cgroup_with_it(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(options(SANDBOXES["cgroup"]))
    await lab.engine.start()
    status = await lab.run("setsid sleep 600 >/dev/null 2>&1 & echo $!; cat /proc/self/cgroup | grep ^0::")
    assert (status.state, status.exit_code) == (ProcessState.COMPLETE, 0)
    daemon, own = lines(status)
    group = Path(str(cgroup_parents().unified)) / own.rpartition("/")[2]
    # The shim leaves the cgroup when the result is written.
    await until(lambda: (group / "cgroup.procs").read_text() == f"{daemon}\n")
    cgroup_parents().sweep(0)
    assert group.exists()
    os.kill(int(daemon), signal.SIGKILL)

    def is_empty() -> bool:
        # Its shim may still be there, and be quicker to remove it.
        with contextlib.suppress(OSError):
            return "populated 0" in (group / "cgroup.events").read_text()
        return True

    await until(is_empty)
    cgroup_parents().sweep(0)
    assert not group.exists()


async def test_processes_are_found_by_the_user_of_the_run() -> None:
    uid = own_uids().first
    mark = uuid4().hex
    with sleeping({}, uid) as child:
        try:
            assert RunProcesses(None, mark, uid=uid).find_all() == [child.pid]
            assert RunProcesses(None, mark, uid=uid).kill(lambda: None, 5) == []
        finally:
            child.kill()
