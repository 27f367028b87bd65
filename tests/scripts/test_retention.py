"""Old workspaces go, everything else stays (tentacle-services.md 5.1)."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tentacle.scripts.retention import WorkspaceCleaner
from tests.scripts.lab import Lab, until

DAY = timedelta(days=1)


def cleaner(lab: Lab, older_than: timedelta = DAY, every: timedelta = DAY) -> WorkspaceCleaner:
    return WorkspaceCleaner(lab.engine, older_than=older_than, every=every)


def age(path: Path, days: float = 2) -> None:
    then = time.time() - days * 86400
    os.utime(path, (then, then), follow_symlinks=False)


async def test_only_old_workspaces_that_do_not_run_are_removed(lab: Lab, tmp_path: Path) -> None:
    for ticket in ("old", "young"):
        await lab.run("true", ticket)
    await lab.start("echo ready; sleep 600", "running")
    await lab.started("running")
    (lab.work / "not-a-workspace").mkdir()
    (lab.work / "script-only").mkdir()
    (lab.work / "script-only" / "Bootstrap.sh").touch()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "Output.log").touch()
    (lab.work / "link").symlink_to(outside)
    (lab.work / ".trash-0123").mkdir()
    for path in (lab.work / "old" / "Output.log", lab.work / "running" / "Output.log", outside / "Output.log"):
        age(path)
    age(lab.work / "script-only" / "Bootstrap.sh")
    assert await cleaner(lab).sweep() == 2
    assert sorted(path.name for path in lab.work.iterdir()) == ["link", "not-a-workspace", "running", "young"]
    assert (outside / "Output.log").exists()
    assert await lab.engine.status("old", 0) is None
    assert await cleaner(lab).sweep() == 0


async def test_the_age_is_that_of_the_log_when_there_is_one(lab: Lab) -> None:
    await lab.run("true")
    age(lab.work / "T-1" / "Bootstrap.sh")
    assert await cleaner(lab).sweep() == 0


async def test_it_sweeps_at_once_and_again(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await lab.run("true", "T-1")
    sweeping = asyncio.create_task(cleaner(lab, timedelta(0), timedelta(seconds=0.01)).run())
    await until(lambda: not (lab.work / "T-1").exists())
    await lab.start("touch ../../second", "T-2")
    await until(lambda: (lab.work.parent / "second").exists() and not (lab.work / "T-2").exists())
    sweeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeping
    assert "Deleted 1 workspace." in caplog.messages
