"""What a script does to its shim, to the files beside its workspace and to the disk costs itself only."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState, ScriptIsolationLevel
from tests.patience import PATIENCE
from tests.scripts.lab import QUICK, Lab, lines, until

FULL = ScriptIsolationLevel.FULL_ISOLATION


async def test_a_stopped_shim_is_woken_by_a_cancel(lab: Lab) -> None:
    await lab.start("echo ready; until [ -e go ]; do sleep 0.01; done; kill -STOP $PPID; sleep 600")
    await lab.started()  # a shim that stops earlier writes no line
    (lab.work / "T-1" / "go").touch()
    shim = lab.shim()
    await until(lambda: " (tentacle-shim) T " in Path(f"/proc/{shim}/stat").read_text())
    await lab.engine.cancel("T-1", 0)
    assert (await lab.ended()).exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    assert lab.alive() == []


def command(*words: str | Path) -> None:
    subprocess.run(words, check=True, timeout=PATIENCE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
async def test_what_cannot_be_removed_hinders_no_other_removal(lab: Lab) -> None:
    await lab.run("cd ..; rm -rf T-1; touch T-1")
    place = lab.work / "T-1"
    command("mount", "--bind", "/etc/hostname", place)
    try:
        await lab.engine.complete("T-1")
        await lab.run("true", "T-2")
        await lab.engine.complete("T-2")
        assert [name for name in await lab.left() if not name.startswith(".runs")] == ["T-1"]
        assert not lab.run_path("T-2").exists()
    finally:
        command("umount", place)


@pytest.mark.parametrize("kind", ["fifo", "directory"])
async def test_another_thing_in_place_of_the_log_costs_neither_mutex_nor_result(
    lab: Lab, new_lab: Callable[..., Lab], kind: str
) -> None:
    make = "mkfifo" if kind == "fifo" else "mkdir"
    body = (
        f"rm {lab.log_path()}; {make} {lab.log_path()}; touch ../../ready; until [ -e ../../go ]; do sleep 0.01; done"
    )
    await lab.start(f"{body}; touch ../../first-ended; exit 6", isolation=FULL)
    await until((lab.work.parent / "ready").exists)
    await lab.engine.aclose()
    later = new_lab()
    async with asyncio.timeout(PATIENCE):
        await later.engine.start()
        await later.start("[ -e ../../first-ended ]", "T-2", isolation=FULL)
        (lab.work.parent / "go").touch()
        assert (await later.ended("T-2")).exit_code == 0
        assert (await later.ended("T-1")).exit_code == 6
        await later.engine.complete("T-1")
        await later.engine.complete("T-2")
        assert await later.left() == []


async def test_scripts_start_again_after_the_directory_of_all_runs_was_removed(lab: Lab) -> None:
    await lab.run("rm -rf ../.runs")
    assert lines(await lab.run("echo fine", "T-2")) == ["fine"]


async def test_scripts_start_again_after_the_directory_of_all_workspaces_was_removed(
    new_lab: Callable[..., Lab],
) -> None:
    """Also where the room on the disk is looked at first, as every agent does."""
    lab = new_lab(replace(QUICK, minimum_free_bytes=0))
    await lab.run("rm -rf ../../$(basename $(dirname $PWD))")
    assert not lab.work.exists()
    assert lines(await lab.run("echo fine", "T-2")) == ["fine"]


async def test_a_waiting_script_that_is_completed_beside_other_calls_stays_completed(lab: Lab) -> None:
    await lab.start("echo ready; until [ -e ../../go ]; do sleep 0.01; done", "holder", isolation=FULL)
    await lab.started("holder")
    await lab.start("touch ../../ran", isolation=FULL)
    found = await asyncio.gather(
        lab.engine.complete("T-1"), lab.engine.status("T-1", 0), lab.engine.cancel("T-1", 0), lab.run("true", seconds=0)
    )
    assert found[3].state is ProcessState.COMPLETE
    (lab.work.parent / "go").touch()
    await lab.ended("holder")
    assert await lab.engine.status("T-1", 0) is None
    assert (await lab.run("touch ../../ran")).exit_code == ScriptExitCode.CANCELLED
    assert not (lab.work.parent / "ran").exists()


async def test_a_completion_that_a_full_disk_forgets_runs_nothing_twice(
    lab: Lab, new_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.run("echo run >>../../runs; exit 6")
    full = Path("/dev/full")
    monkeypatch.setattr(lab.engine.completed._finished, "_path", full)
    await lab.engine.complete("T-1")
    assert not (lab.work / "T-1").exists()
    assert lab.run_path().exists()
    await lab.engine.aclose()
    later = new_lab()
    await later.engine.start()
    assert (await later.run("echo run >>../../runs")).exit_code == 6
    assert (lab.work.parent / "runs").read_text() == "run\n"
    await later.engine.complete("T-1")
    assert await later.left() == []


async def test_a_script_completed_while_it_is_launched_is_no_error(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(20):
        await lab.start("true", f"T-{number}")
        await lab.engine.complete(f"T-{number}")
    await until(lambda: lab.engine.running() == ())
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
