"""Nothing that a cancelled script has started may survive; counted in /proc."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState, ScriptIsolationLevel
from tentacle.scripts.engine import EngineOptions
from tests.patience import PATIENCE
from tests.scripts.lab import Lab

SCRIPTS = {
    "foreground": "echo ready; sleep 600",
    "background": "sleep 600 & sleep 600 & echo ready; wait",
    "setsid": "setsid sleep 600 & echo ready; sleep 600",
    "double fork": "( (sleep 600 & sleep 600) & ); echo ready; sleep 600",
    "detached": "( setsid setsid nohup sleep 600 >/dev/null 2>&1 </dev/null & ) ; echo ready; sleep 600",
    "ignores TERM": "trap '' TERM; echo ready; while :; do sleep 600; done",
    "child ignores TERM": "setsid bash -c \"trap '' TERM; echo ready; while :; do sleep 0.05; done\" & wait",
    "forks when asked to end": "trap 'setsid sleep 600 & sleep 600' TERM; echo ready; while :; do sleep 0.05; done",
    "forks all the time": "trap '' TERM; f() { sleep 600 & }; echo ready; while :; do f; read -t 0.02 </dev/zero; done",
    "stopped": "sleep 600 & kill -STOP $!; echo ready; kill -STOP $$",
    "many children": "for i in {1..300}; do sleep 600 & done; echo ready; wait",
    "only a child is left": "sleep 600 & echo ready",
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_nothing_survives_a_cancel(lab: Lab, name: str) -> None:
    await lab.start(SCRIPTS[name])
    await lab.started()
    await lab.engine.cancel("T-1", 0)
    status = await lab.ended()
    assert status.exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    assert status.entries[-1].text == f"Process /bin/bash in {lab.work / 'T-1'} exited with code -1"
    assert lab.alive() == []


async def test_the_script_is_asked_to_end_before_it_is_killed(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(EngineOptions(cancel_grace=PATIENCE, minimum_free_bytes=None))
    await lab.engine.start()
    await lab.start("trap 'echo tidied up; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    await lab.started()
    await lab.engine.cancel("T-1", 0)
    status = await lab.ended()
    assert "tidied up" in [e.text for e in status.entries]
    assert status.exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING


async def test_the_grace_is_the_one_of_the_options(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(EngineOptions(cancel_grace=0.8, minimum_free_bytes=None))
    await lab.engine.start()
    for number in range(10):
        ticket = f"T-{number}"
        await lab.start(SCRIPTS["ignores TERM"], ticket=ticket)
        await lab.started(ticket)
        before = time.monotonic()
        await lab.engine.cancel(ticket, 0)
        await lab.ended(ticket)
        took = time.monotonic() - before
        assert took > 0.75
        if took < EngineOptions().cancel_grace:
            return
    pytest.fail("it always took as long as the grace that was not asked for")


async def test_a_cancel_answers_as_soon_as_the_script_has_ended(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(EngineOptions(cancel_answer=2 * PATIENCE, minimum_free_bytes=None))
    await lab.engine.start()
    await lab.start("echo ready; exec sleep 600")
    await lab.started()
    async with asyncio.timeout(PATIENCE):
        status = await lab.engine.cancel("T-1", 0)
    assert status is not None
    assert (status.state, status.exit_code) == (ProcessState.COMPLETE, ScriptExitCode.CANCELLED_WHILE_RUNNING)


async def test_a_cancel_does_not_wait_for_a_script_that_takes_its_time(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(EngineOptions(cancel_grace=2 * PATIENCE, minimum_free_bytes=None))
    await lab.engine.start()
    await lab.start("trap 'read <../go; exit' TERM; mkfifo ../go; echo ready; while :; do sleep 0.05; done")
    await lab.started()
    async with asyncio.timeout(PATIENCE):
        status = await lab.engine.cancel("T-1", 0)
    assert status is not None
    assert status.state is ProcessState.RUNNING
    await asyncio.to_thread((lab.work / "go").write_text, "\n")
    await lab.ended()


async def test_a_cancel_right_after_the_start_is_not_lost(lab: Lab) -> None:
    for number in range(8):
        ticket = f"T-{number}"
        await lab.start("sleep 600", ticket)
        if number % 2:
            await asyncio.sleep(0.001 * number)
        await lab.engine.cancel(ticket, 0)
        assert (await lab.ended(ticket)).exit_code in (
            ScriptExitCode.CANCELLED_WHILE_RUNNING,
            ScriptExitCode.CANCELLED,
        )
    assert lab.alive() == []


async def test_a_cancel_while_waiting_for_the_lock_ends_the_wait(lab: Lab) -> None:
    await lab.start("echo ready; sleep 600", "T-1", task_id="A")
    await lab.started()
    waiting = await lab.start("touch ../ran", "T-2", task_id="B", isolation=ScriptIsolationLevel.FULL_ISOLATION)
    assert waiting.state is ProcessState.PENDING
    status = await lab.engine.cancel("T-2", 0)
    assert status is not None
    assert (status.state, status.exit_code) == (ProcessState.COMPLETE, ScriptExitCode.CANCELLED)
    assert [e.text for e in status.entries][-2:] == [
        "This task was canceled before it could start. Task [A](~/app#/tasks/A) is still running.",
        "Script execution canceled.",
    ]
    assert not (lab.work / "ran").exists()


async def test_cancelling_twice_and_after_the_end_changes_nothing(lab: Lab) -> None:
    await lab.start("echo ready; sleep 600")
    await lab.started()
    await asyncio.gather(*(lab.engine.cancel("T-1", 0) for _ in range(3)))
    first = await lab.ended()
    assert await lab.engine.cancel("t-1", 0) == first
    done = await lab.run("exit 5", "T-2")
    again = await lab.engine.cancel("T-2", 0)
    assert again is not None
    assert (again.exit_code, again.entries) == (5, done.entries)


async def test_the_lock_is_free_after_a_cancel(lab: Lab) -> None:
    full = ScriptIsolationLevel.FULL_ISOLATION
    await lab.start("trap '' TERM; echo ready; while :; do sleep 1; done", isolation=full)
    await lab.started()
    await lab.engine.cancel("T-1", 0)
    assert (await lab.run("true", "T-2", isolation=full)).exit_code == 0
