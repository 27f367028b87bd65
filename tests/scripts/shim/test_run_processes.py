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
from tests.scripts.lab import Lab, lines, until
from tests.scripts.rooms import WAYS, living, options, own_uids, place

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
async def room(request: pytest.FixtureRequest, new_lab: Callable[..., Lab]) -> AsyncIterator[Lab]:
    """A lab of the way that the test is run for."""
    isolation = WAYS[request.param]
    if isolation.use_cgroup:
        place()
    lab = new_lab(options(isolation))
    await lab.engine.start()
    yield lab


@pytest.mark.parametrize("room", ["tree", "cgroup", "private"], indirect=True)
@pytest.mark.parametrize("name", HIDERS)
async def test_nobody_hides(room: Lab, name: str) -> None:
    token = f"600.{random.randrange(10**9):09}"
    await room.start(HIDERS[name].replace("sleep N", f"sleep {token}"))
    await room.started()
    assert living(token, str(room.work))
    await room.engine.cancel("T-1", 0)
    status = await room.ended()
    assert status.exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    assert living(token, str(room.work)) == []


@pytest.mark.parametrize("room", ["tree", "cgroup"], indirect=True)
async def test_a_thousand_children(room: Lab) -> None:
    token = f"600.{random.randrange(10**9):09}"
    await room.start(f"trap '' TERM; for i in {{1..1000}}; do sleep {token} & done; echo ready; wait")
    await room.until("T-1", lambda status: "ready" in [e.text for e in status.entries], 60)
    # The last ones may not be what they will be yet.
    await until(lambda: len(living(token)) == 1000, 60)
    await room.engine.cancel("T-1", 0)
    await room.ended("T-1", 60)
    assert living(token, str(room.work)) == []


@pytest.mark.parametrize("room", ["tree", "cgroup", "private"], indirect=True)
async def test_cancelled_before_it_exists_twice_and_after_the_end(room: Lab) -> None:
    for number in range(4):
        ticket = f"T-{number}"
        await room.start("sleep 600", ticket)
        for _ in range(2):
            await room.engine.cancel(ticket, 0)
        status = await room.ended(ticket)
        assert status.exit_code in (ScriptExitCode.CANCELLED_WHILE_RUNNING, ScriptExitCode.CANCELLED)
        assert await room.engine.cancel(ticket, 0) == status
    assert living(str(room.work)) == []


@pytest.mark.parametrize("room", ["tree", "cgroup"], indirect=True)
async def test_what_another_process_has_started_for_the_script_is_found_by_its_mark(room: Lab) -> None:
    await room.start(f"echo ${MARK}; echo ready; sleep 600")
    await room.started()
    status = await room.engine.status("T-1", 0)
    assert status is not None
    mark = status.entries[-2].text
    assert len(mark) == 32
    with sleeping({MARK: mark}) as stray:
        await room.engine.cancel("T-1", 0)
        await room.ended()
        assert stray.wait(5) == -signal.SIGTERM


@pytest.mark.parametrize("room", ["cgroup"], indirect=True)
async def test_who_came_into_the_cgroup_belongs_to_the_script(room: Lab) -> None:
    await room.start("cat /proc/self/cgroup; echo ready; sleep 600")
    await room.started()
    status = await room.engine.status("T-1", 0)
    assert status is not None
    (own,) = (entry.text for entry in status.entries if entry.text.startswith("0::"))
    group = Path(str(place().unified)) / own.rpartition("/")[2]
    with sleeping({}) as guest:
        (group / "cgroup.procs").write_text(str(guest.pid))
        await room.engine.cancel("T-1", 0)
        await room.ended()
        assert guest.wait(5) == -signal.SIGTERM
    await until(lambda: not group.exists())


@pytest.mark.parametrize("room", ["tree", "cgroup"], indirect=True)
async def test_what_outlives_its_watcher_is_ended_before_the_lock_is_given_away(room: Lab) -> None:
    await room.start("setsid sleep 600 & echo ready; sleep 600")
    await room.started()
    shim = room.shim()
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    assert (await room.ended()).exit_code == ScriptExitCode.UNKNOWN_RESULT
    assert room.alive() == []


@pytest.mark.parametrize("room", ["cgroup"], indirect=True)
async def test_the_watcher_is_born_in_the_cgroup_of_its_script(room: Lab) -> None:
    await room.run("cat /proc/self/cgroup /proc/$PPID/cgroup")
    status = await room.engine.status("T-1", 0)
    assert status is not None
    own, above = (entry.text for entry in status.entries if entry.text.startswith("0::"))
    group = Path(str(place().unified)) / own.rpartition("/")[2]
    assert own == above
    assert group.name.startswith(PREFIX)
    await room.engine.aclose()
    await until(lambda: not group.exists())


async def test_who_cannot_be_born_in_a_cgroup_is_born_beside_it(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(options(WAYS["cgroup"]))
    await lab.engine.start()
    lab.engine._means.sandbox.birthplace = lambda: "/nowhere/at/all"  # type: ignore[method-assign]
    assert lines(await lab.run("grep -c tentacle-run /proc/self/cgroup")) == ["1"]


async def test_killing_gives_up_after_its_time_and_says_who_is_left() -> None:
    mark = uuid4().hex
    with sleeping({MARK: mark}) as child:
        try:
            before = time.monotonic()
            assert RunProcesses(None, mark).kill(lambda: None, -1) == [child.pid]
            assert time.monotonic() - before < 30
            assert RunProcesses(None, mark).everybody() == [child.pid]
            assert RunProcesses(None, "other").everybody() == []
        finally:
            child.kill()
    assert RunProcesses(None, mark).everybody() == []


async def test_the_users_of_a_process_are_read() -> None:
    assert real_and_saved_uids(os.getpid()) == (os.getuid(),) * 3
    assert real_and_saved_uids(2**30) == ()


async def test_what_a_script_leaves_on_purpose_lives_on_and_its_cgroup_with_it(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(options(WAYS["cgroup"]))
    await lab.engine.start()
    status = await lab.run("setsid sleep 600 >/dev/null 2>&1 & echo $!; cat /proc/self/cgroup | grep ^0::")
    assert (status.state, status.exit_code) == (ProcessState.COMPLETE, 0)
    daemon, own = lines(status)
    group = Path(str(place().unified)) / own.rpartition("/")[2]
    # Who has watched over the script leaves it when everything has been told.
    await until(lambda: (group / "cgroup.procs").read_text() == f"{daemon}\n")
    place().sweep(0)
    assert group.exists()
    os.kill(int(daemon), signal.SIGKILL)

    def is_empty() -> bool:
        # Its shim may still be there, and be quicker to remove it.
        with contextlib.suppress(OSError):
            return "populated 0" in (group / "cgroup.events").read_text()
        return True

    await until(is_empty)
    place().sweep(0)
    assert not group.exists()


async def test_a_user_of_its_own_is_one_more_way() -> None:
    uid = own_uids().first
    mark = uuid4().hex
    with sleeping({}, uid) as child:
        try:
            assert RunProcesses(None, mark, uid=uid).everybody() == [child.pid]
            assert RunProcesses(None, mark, uid=uid).kill(lambda: None, 5) == []
        finally:
            child.kill()
