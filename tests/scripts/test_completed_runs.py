"""A completed run: nobody waits for its files to go, its lock is kept to its end, and it never runs again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState, ScriptIsolationLevel
from tentacle.scripts.shim.run_record import HEAD
from tentacle.scripts.workspace.run_files import run_name
from tests.scripts.lab import Lab, left, lines, until

FULL = ScriptIsolationLevel.FULL_ISOLATION
WAITS = "echo ready; until [ -e ../../go ]; do sleep 0.01; done; touch ../../went; exit 9"


def go(lab: Lab) -> None:
    (lab.work.parent / "go").touch()


async def gone(lab: Lab) -> None:
    await until(lambda: not lab.run_path().exists())
    assert await lab.left() == []


async def test_a_repeated_start_is_answered_with_the_code_and_a_line_that_says_so(
    lab: Lab, new_lab: Callable[..., Lab]
) -> None:
    await lab.run("touch ../../runs; exit 9")
    await lab.engine.complete("T-1")
    (lab.work.parent / "runs").unlink()
    later = new_lab()
    for _ in range(2):
        again = await lab.run("touch ../../runs", "t-1")
        assert (again.state, again.exit_code, again.next_sequence) == (ProcessState.COMPLETE, 9, 1)
        assert [entry.text for entry in again.entries] == [
            "A script has run under this ticket before, and its result was fetched: nothing is run again."
        ]
        assert await lab.engine.status("T-1", 0) is None
        assert await lab.engine.cancel("T-1", 0) is None
        await lab.engine.complete("T-1")
        assert lab.engine.is_known("T-1")
        assert not (lab.work.parent / "runs").exists()
        await lab.engine.aclose()
        lab = later
        await lab.engine.start()


async def test_one_that_runs_is_unknown_to_all_but_its_lock_until_it_has_ended(lab: Lab) -> None:
    await lab.start(WAITS, isolation=FULL)
    await lab.started()
    await lab.engine.complete("T-1")
    assert not (lab.work / "T-1").exists()
    assert not lab.log_path().exists()
    assert lab.run_path().exists(), "it tells the next agent of the lock"
    assert lab.engine.running() == ("T-1",)
    assert lab.engine.completed.is_running(run_name("T-1"))
    assert await lab.engine.status("T-1", 0) is None
    assert (await lab.run("true", seconds=0)).exit_code == ScriptExitCode.UNKNOWN_RESULT
    waiting = await lab.start("[ -e ../../went ]", "T-2", isolation=FULL)
    assert waiting.state is ProcessState.PENDING
    go(lab)
    assert (await lab.ended("T-2")).exit_code == 0
    await lab.engine.complete("T-2")
    (lab.work.parent / "go").unlink()
    await gone(lab)
    assert (await lab.run("true")).exit_code == 9, "by now it is known how it ended"


async def test_one_whose_process_dies_lets_go_of_its_lock(lab: Lab) -> None:
    await lab.start(WAITS, isolation=FULL)
    await lab.started()
    shim = lab.shim()
    assert shim is not None
    await lab.engine.complete("T-1")
    os.kill(shim, signal.SIGKILL)
    assert lines(await lab.run("echo next", "T-2"))[-1] == "next"
    await lab.engine.complete("T-2")
    await gone(lab)
    assert (await lab.run("true")).exit_code == ScriptExitCode.UNKNOWN_RESULT


async def test_one_that_waits_for_its_lock_will_not_start(lab: Lab) -> None:
    await lab.start(WAITS, isolation=FULL)
    await lab.started()
    await lab.start("touch ../../second", "T-2", isolation=FULL)
    await lab.engine.complete("T-2")
    assert (await lab.run("true", "T-2")).exit_code == ScriptExitCode.CANCELLED
    go(lab)
    await lab.ended()
    assert lab.engine.running() == ()
    assert not (lab.work.parent / "second").exists()


@pytest.mark.parametrize("times", [1, 3])
async def test_the_next_agents_keep_its_lock_and_end_it_when_they_are_told(
    lab: Lab, new_lab: Callable[..., Lab], times: int
) -> None:
    await lab.start(WAITS, isolation=FULL)
    await lab.started()
    await lab.engine.complete("T-1")
    for _ in range(times):
        await lab.engine.aclose()
        lab = new_lab()
        await lab.engine.start()
        assert [run.files.header.ticket for run in lab.engine.completed.running] == ["T-1"]
        assert await lab.engine.status("T-1", 0) is None
    assert await lab.engine.cancel_all(10) == ()
    await gone(lab)
    assert (await lab.run("true")).exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING


async def test_one_that_ends_while_no_agent_lives_is_forgotten_by_the_next(
    lab: Lab, new_lab: Callable[..., Lab]
) -> None:
    await lab.start(WAITS)
    await lab.started()
    await lab.engine.complete("T-1")
    await lab.engine.aclose()
    go(lab)
    await until(lambda: not lab.alive())
    later = new_lab()
    await until(lambda: later.shim() is None)
    await later.engine.start()
    assert await later.left() == []
    assert later.engine.running() == ()
    assert await later.engine.status("T-1", 0) is None
    assert (await later.run("touch ../../twice")).exit_code == 9
    assert not (later.work.parent / "twice").exists()


async def test_a_damaged_one_is_forgotten_with_everything_that_lies_there(lab: Lab) -> None:
    await lab.run("exit 3")
    await lab.engine.aclose()
    with lab.run_path().open("r+b") as file:
        file.seek(HEAD + 20)
        file.write(bytes(20))
    lab.log_path().unlink()
    (lab.log_path() / "in").mkdir(parents=True)
    await lab.engine.start()
    await lab.engine.complete("T-1")
    assert await lab.left() == []
    assert (await lab.run("true")).exit_code == ScriptExitCode.UNKNOWN_RESULT


async def test_the_removal_of_a_tree_is_not_waited_for_and_goes_on_after_a_restart(
    lab: Lab, new_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.run("mkdir -p a/b/c; touch $(seq 500)")
    trash: list[Path] = []
    monkeypatch.setattr(lab.engine.completed._trash, "add", lambda path, _run: trash.append(path))
    await lab.engine.complete("T-1")
    assert len(trash) == 1
    assert left(lab.work) == [f".runs/{lab.log_path().name}", f".runs/{lab.run_path().name}", trash[0].name]
    later = new_lab()
    await later.engine.start()
    assert await later.engine.status("T-1", 0) is None
    assert await later.left() == []
    assert (await later.run("true")).exit_code == 0
