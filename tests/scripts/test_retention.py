"""Old workspaces go, everything else stays (tentacle-services.md 5.1)."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tentacle.scripts.retention import Quota, Usage, WorkspaceCleaner, usage_of
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


# --- the quota -----------------------------------------------------------------------------------------------------


def with_quota(lab: Lab, quota: Quota) -> WorkspaceCleaner:
    return WorkspaceCleaner(lab.engine, older_than=DAY, every=DAY, quota=quota)


async def finished(lab: Lab, ticket: str, hours: float, *, files: int = 0, megabytes: int = 0) -> Path:
    """A workspace that was used `hours` ago, with so many files and bytes in it."""
    await lab.run("true", ticket)
    workspace = lab.work / ticket
    for number in range(files):
        (workspace / f"file-{number}").touch()
    (workspace / "big").write_bytes(b"x" * megabytes * 1024 * 1024)
    age(workspace / "Output.log", hours / 24)
    return workspace


async def test_the_oldest_go_until_the_bytes_fit(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for hours in (1, 3, 2):
        await finished(lab, f"{hours}-hours", hours, megabytes=2)
    cleaner = with_quota(lab, Quota(bytes=5 * 1024 * 1024))
    assert await cleaner.sweep() == 1
    assert sorted(path.name for path in lab.work.iterdir()) == ["1-hours", "2-hours"]
    (said,) = caplog.messages
    assert re.fullmatch(
        r"Deleted 1 workspace to keep the quota of 5 MB: 6\.\S+ MB in \d+ inodes are now 4\.\S+ MB in \d+ inodes\.",
        said,
    )
    assert await cleaner.sweep() == 0
    assert await lab.engine.status("3-hours", 0) is None


async def test_or_the_inodes(lab: Lab) -> None:
    for hours in (1, 2, 3, 4):
        await finished(lab, f"{hours}-hours", hours, files=100)
    assert await with_quota(lab, Quota(inodes=250)).sweep() == 2
    assert sorted(path.name for path in lab.work.iterdir()) == ["1-hours", "2-hours"]


async def test_no_quota_costs_what_runs_or_may_not_have_been_fetched_yet(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await lab.run("true", "just-ended")
    await lab.start("echo ready; sleep 600", "running")
    await lab.started("running")
    age(lab.work / "running" / "Output.log")
    old = await finished(lab, "old", 3)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "Output.log").write_bytes(b"x" * 1000)
    age(outside / "Output.log")
    (lab.work / "link").symlink_to(outside)
    (old / "link").symlink_to(outside)
    assert await with_quota(lab, Quota(bytes=1, inodes=1)).sweep() == 1
    assert sorted(path.name for path in lab.work.iterdir()) == ["just-ended", "link", "running"]
    assert (outside / "Output.log").exists()
    assert "more than their quota of 1 B in 1 inodes" in caplog.messages[-1]
    assert lab.engine.is_running("running")


def test_usage_counts_what_has_several_names_once_and_follows_no_link(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "file").write_bytes(b"x" * 100_000)
    (directory / "again").hardlink_to(directory / "sub" / "file")
    (directory / "link").symlink_to("/")
    usage = usage_of(directory)
    assert usage.inodes == 4
    assert 100_000 <= usage.bytes < 200_000
    assert usage_of(tmp_path / "nowhere") == Usage()
