"""Shims are used again, but only when their script has left no process behind."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState
from tentacle.scripts.engine import RunStatus
from tentacle.scripts.sandbox.sandbox import Mode
from tentacle.scripts.shim.process_tree import is_alive
from tests.scripts.lab import Lab, lines, until
from tests.scripts.sandboxes import SANDBOXES, options

SHIM = "echo $PPID"


def shim_of(status: RunStatus) -> int:
    """Of a script whose first line is `echo $PPID`."""
    return int(status.entries[6].text)


def idle(lab: Lab) -> list[int]:
    return [shim.pid for shim in lab.engine._shims._idle]


@pytest.fixture(params=["tree", "cgroup", "private", "private, cgroup"])
async def sandboxed(request: pytest.FixtureRequest, new_lab: Callable[..., Lab]) -> Lab:
    lab = new_lab(options(SANDBOXES[request.param]))
    await lab.engine.start()
    return lab


async def test_scripts_that_come_one_after_another_share_a_shim(sandboxed: Lab) -> None:
    """A pid namespace may live a moment longer than its script; its shim is then not reused."""
    found = set()
    for number in range(20):
        status = await sandboxed.run(f"{SHIM}; echo {number}; echo error >&2; exit {number}", f"T-{number}")
        assert (lines(status)[1:], status.exit_code) == ([str(number), "error"], number)
        found.update(idle(sandboxed))
        await sandboxed.engine.complete(f"T-{number}")
    assert len(found) == 1 or sandboxed.engine.options.sandbox.mode is Mode.PRIVATE


async def test_it_keeps_no_descriptor_and_no_signal_of_a_run(lab: Lab) -> None:
    async def state(ticket: str) -> tuple[list[str], str]:
        shim = shim_of(await lab.run(SHIM, ticket))
        await lab.engine.complete(ticket)
        await until(lambda: idle(lab) == [shim])
        descriptors = sorted(path.name for path in Path(f"/proc/{shim}/fd").iterdir())
        status = Path(f"/proc/{shim}/status").read_text().splitlines()
        return descriptors, next(line for line in status if line.startswith("SigBlk"))

    first = await state("T-0")
    for number in range(1, 10):
        assert await state(f"T-{number}") == first


async def test_a_script_inherits_nothing_of_its_shim(sandboxed: Lab) -> None:
    for ticket in ("first", "again"):
        status = await sandboxed.run("for fd in /proc/self/fd/*; do [ -e $fd ] && echo ${fd##*/}; done", ticket)
        # The script itself is what bash reads from.
        assert sorted(set(lines(status)) - {"255"}) == ["0", "1", "2"]


PASS_ON = """
import os, socket, sys
line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
line.connect(sys.argv[1])
kept = [os.open(f"/proc/self/fd/{number}", flags) for number in (1, 2) for flags in (os.O_RDONLY,)]
socket.send_fds(line, [b"x"], kept)
"""


async def test_nothing_that_a_script_has_passed_on_leads_to_a_later_one(lab: Lab, tmp_path: Path) -> None:
    """A script opens its own output for reading and gives that to a process that is none of its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(str(tmp_path / "door"))
        door.listen(1)
        (lab.work / "pass-on.py").write_text(PASS_ON)
        first = await lab.run(f"{SHIM}; {sys.executable} ../pass-on.py {tmp_path}/door", "T-1")
        accepted, _ = door.accept()
        _, kept, _, _ = socket.recv_fds(accepted, 10, 10)
        accepted.close()
    assert len(kept) == 2
    second = await lab.run(f"{SHIM}; echo secret; echo secret >&2", "T-2")
    assert shim_of(second) == shim_of(first), "this is about a shim that is used again"
    assert lines(second)[1:] == ["secret", "secret"]
    for descriptor in kept:
        os.set_blocking(descriptor, False)
        assert os.read(descriptor, 1000) == b"", "all who could write there have gone"
        os.close(descriptor)


UNCLEAN = {
    "a daemon": "setsid sleep 600 >/dev/null 2>&1 </dev/null &",
    "an orphan of an orphan": "( (sleep 600 >/dev/null 2>&1 &) & )",
}


@pytest.mark.parametrize("sandbox", ["tree", "cgroup"])
@pytest.mark.parametrize("name", UNCLEAN)
async def test_a_shim_whose_script_has_left_a_process_is_not_used_again(
    name: str, sandbox: str, new_lab: Callable[..., Lab]
) -> None:
    lab = new_lab(options(SANDBOXES[sandbox]))
    await lab.engine.start()
    shim = shim_of(await lab.run(f"{SHIM}; {UNCLEAN[name]}"))
    await until(lambda: not is_alive(shim))
    await until(lambda: len(lab.alive()) == 1)  # for a moment, a process that becomes another one shows no environment
    left = lab.alive()
    assert shim_of(await lab.run(SHIM, "T-2")) != shim
    assert lab.alive() == left
    os.kill(left[0], signal.SIGKILL)
    await until(lambda: not lab.alive())


async def test_a_shim_whose_script_was_cancelled_is_not_used_again(sandboxed: Lab) -> None:
    await sandboxed.start("echo ready; sleep 600")
    await sandboxed.started()
    await sandboxed.engine.cancel("T-1", 0)
    assert (await sandboxed.ended()).exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    assert idle(sandboxed) == []
    assert (await sandboxed.run("exit 3", "T-2")).exit_code == 3


async def test_a_cancel_at_the_very_end_meets_no_other_script(lab: Lab) -> None:
    """Whatever the cancel finds, the script that comes next runs to its own end."""
    for number in range(30):
        first, second = f"A-{number}", f"B-{number}"
        await lab.start("exit 0", first)
        await lab.until(first, lambda status: "exited with code" in status.entries[-1].text)
        await lab.engine.cancel(first, 0)
        status = await lab.run("sleep 0.01; exit 5", second)
        assert status.exit_code == 5
        assert (await lab.ended(first)).exit_code in (0, ScriptExitCode.CANCELLED_WHILE_RUNNING)


async def test_an_idle_shim_that_dies_is_replaced(lab: Lab) -> None:
    shim = shim_of(await lab.run(SHIM))
    assert idle(lab) == [shim]
    os.kill(shim, signal.SIGKILL)
    status = await lab.run(SHIM, "T-2")
    assert status.state is ProcessState.COMPLETE
    assert shim_of(status) != shim


async def test_a_signal_that_was_meant_for_nobody_harms_nobody(lab: Lab) -> None:
    """Somebody asks an idle one to end: the next script runs all the same."""
    shim = shim_of(await lab.run(SHIM))
    os.kill(shim, signal.SIGTERM)
    status = await lab.run(f"{SHIM}; exit 4", "T-2")
    assert (status.exit_code, shim_of(status) != shim) == (4, True)


async def test_they_end_with_their_agent(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab()
    await lab.engine.start()
    shim = shim_of(await lab.run(SHIM))
    await lab.start("echo $PPID; until [ -e ../go ]; do sleep 0.01; done", "T-2")
    busy = shim_of(await lab.until("T-2", lambda status: len(status.entries) > 6))
    assert busy == shim
    await lab.engine.aclose()
    assert is_alive(busy)
    (lab.work / "go").touch()
    await until(lambda: not is_alive(busy))


async def test_one_with_nothing_to_do_is_let_go(lab: Lab) -> None:
    lab.engine._shims._idle_seconds = 0.05
    shim = shim_of(await lab.run(SHIM))
    await until(lambda: not is_alive(shim))
    assert idle(lab) == []
    assert (await lab.run("exit 6", "T-2")).exit_code == 6
