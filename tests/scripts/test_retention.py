"""Old workspaces go, everything else stays (docs/spec/services.md, "Workspace cleaner")."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tentacle.scripts.retention import Quota, Usage, WorkspaceCleaner, usage_of
from tentacle.scripts.shim import run_record
from tentacle.scripts.shim.clock import since_boot_ms
from tentacle.scripts.workspace.boots import BootLedger
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.run_files import run_name
from tests.patience import PATIENCE
from tests.scripts.lab import Lab, left, lines, until

DAY = timedelta(days=1)


def cleaner(lab: Lab, older_than: timedelta = DAY, every: timedelta = DAY) -> WorkspaceCleaner:
    return WorkspaceCleaner(lab.engine, older_than=older_than, every=every)


def age(path: Path, days: float = 2) -> None:
    then = time.time() - days * 86400
    os.utime(path, (then, then), follow_symlinks=False)


def command(*words: str | Path) -> None:
    subprocess.run(words, check=True, timeout=PATIENCE)


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
    lab.age("old")
    for path in (lab.log_path("running"), lab.work / "running" / "Bootstrap.sh", outside / "Output.log"):
        age(path)
    age(lab.work / "script-only" / "Bootstrap.sh")
    assert await cleaner(lab).sweep() == 2
    kept = [name for name in await lab.left() if not name.startswith(".")]
    assert kept == ["link", "not-a-workspace", "running", "young"]
    assert (outside / "Output.log").exists()
    assert await lab.engine.status("old", 0) is None
    assert await cleaner(lab).sweep() == 0


async def test_the_age_counts_from_the_end_by_a_clock_that_does_not_step(lab: Lab) -> None:
    """Files that look old, and a clock that has been set, cost no result."""
    await lab.run("true")
    for path in (lab.log_path(), lab.run_path(), lab.work / "T-1" / "Bootstrap.sh"):
        age(path, 3000)
    for now in (0.0, time.time() + 10 * 86400, 2.0**40):
        clock = iter([now] * 100)
        assert await WorkspaceCleaner(lab.engine, older_than=DAY, every=DAY, clock=clock.__next__).sweep() == 0
    later = WorkspaceCleaner(lab.engine, older_than=DAY, every=DAY, since_boot=lambda: since_boot_ms() + 86_401_000)
    assert await later.sweep() == 1


HOUR = 3_600_000


@pytest.mark.parametrize("steps", [3 * 86400, -20 * 365 * 86400, None])
async def test_setting_the_clock_while_the_machine_is_down_removes_no_result(lab: Lab, steps: int | None) -> None:
    """As with a machine that has no clock of its own: it begins in 1970 and is set later.

    The age is the time for which the machine has run since, and grows also when it is started again and again.
    """
    await lab.run("true")
    runs = lab.engine.workspaces.runs.path
    with lab.run_path().open("r+b") as file:
        result = run_record.read_result(file.fileno())
        assert result is not None
        run_record.write_result(file.fileno(), result._replace(boot=b"a" * 16, since_boot=5 * HOUR))
    BootLedger(runs, lambda: 10 * HOUR, b"a" * 16).note()
    BootLedger(runs, lambda: 8 * HOUR, b"b" * 16).note()

    def later(hours: float) -> WorkspaceCleaner:
        uptime = int(hours * HOUR)
        return WorkspaceCleaner(
            lab.engine,
            older_than=DAY,
            every=DAY,
            clock=lambda: 0.0 if steps is None else time.time() + steps,
            since_boot=lambda: uptime,
        )

    assert await later(1).sweep() == 0
    assert await later(10.9).sweep() == 0
    assert await later(11.1).sweep() == 1


async def test_a_run_of_a_start_that_nobody_noted_is_no_older_than_its_log_or_the_last_start(lab: Lab) -> None:
    await lab.run("true")
    with lab.run_path().open("r+b") as file:
        result = run_record.read_result(file.fileno())
        assert result is not None
        run_record.write_result(file.fileno(), result._replace(boot=bytes(16), since_boot=0))
    assert await sweep_after(lab, days_up=30) == 0
    age(lab.log_path(), 3000)
    assert await sweep_after(lab, days_up=0.9) == 0
    assert await sweep_after(lab, days_up=1.1) == 1


async def sweep_after(lab: Lab, days_up: float) -> int:
    uptime = int(days_up * 24 * HOUR)
    return await WorkspaceCleaner(lab.engine, older_than=DAY, every=DAY, since_boot=lambda: uptime).sweep()


async def test_a_foreign_directory_of_the_future_goes_a_day_after_it_was_seen(lab: Lab) -> None:
    """And one that was seen young does not grow old because the clock is set."""
    for name, days in {"future": -3000, "young": 0.5}.items():
        (lab.work / name).mkdir()
        (lab.work / name / "Output.log").touch()
        age(lab.work / name / "Output.log", days)
    now, up = [time.time()], [1_000_000]
    sweeper = WorkspaceCleaner(lab.engine, older_than=DAY, every=DAY, clock=lambda: now[0], since_boot=lambda: up[0])
    assert await sweeper.sweep() == 0
    now[0] += 3 * 86400
    assert await sweeper.sweep() == 0
    up[0] += 13 * HOUR
    assert await sweeper.sweep() == 1
    assert [path.name for path in lab.work.iterdir() if not path.name.startswith(".")] == ["future"]
    up[0] += 12 * HOUR
    assert await sweeper.sweep() == 1


async def test_the_script_s_file_is_touched_while_it_runs(lab: Lab, tmp_path: Path) -> None:
    """A sweeper that is not ours judges by its age.  What a script has put in its place is left alone."""
    (tmp_path / "foreign").touch()
    for ticket, trick in {"plain": "true", "link": f"ln -sf {tmp_path}/foreign Bootstrap.sh", "gone": "rm *"}.items():
        await lab.start(f"{trick}; echo ready; sleep 600", ticket)
        await lab.started(ticket)
    age(tmp_path / "foreign")
    age(lab.work / "plain" / "Bootstrap.sh")
    lab.engine.touch_running()
    assert time.time() - (lab.work / "plain" / "Bootstrap.sh").stat().st_mtime < 60
    assert time.time() - (tmp_path / "foreign").stat().st_mtime > 86400


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


async def test_a_damaged_run_is_not_removed_while_its_shim_lives(lab: Lab, new_lab: Callable[..., Lab]) -> None:
    """An agent that was started later cannot tell what it is, but that somebody lives there."""
    await lab.start("echo ready; read -t 600 <>/dev/zero; sleep 600")
    await lab.started()
    record = lab.run_path().read_bytes()
    with lab.run_path().open("r+b") as file:
        file.seek(4096)
        file.write(b"rubbish")
    later = new_lab(work=lab.work)
    await later.engine.start()
    for path in (lab.log_path(), lab.run_path(), lab.work / "T-1" / "Bootstrap.sh"):
        age(path)
    assert await cleaner(later).sweep() == 0
    assert (lab.work / "T-1" / "Bootstrap.sh").exists()
    with lab.run_path().open("r+b") as file:
        file.seek(4096)
        file.write(record[4096:])


async def test_a_sweep_beside_status_and_complete_gives_everybody_an_answer(lab: Lab) -> None:
    """A result is there whole, or it is not known any more."""
    for number in range(8):
        ticket = f"T-{number}"
        await lab.run("seq 2000; exit 6", ticket)
        lab.age(ticket)
    sweeping = asyncio.create_task(cleaner(lab).sweep())
    for round_ in range(4):
        asked = [lab.engine.status(f"T-{number}", 0) for number in range(8)]
        for status in await asyncio.gather(*asked):
            assert status is None or (status.exit_code, len(status.entries)) == (6, 2007)
        await lab.engine.complete(f"T-{round_}")
    await sweeping
    assert await lab.left() == []


async def test_a_ticket_is_free_before_its_old_workspace_has_been_removed(lab: Lab) -> None:
    """What is being swept away takes nothing of what is started meanwhile under the same ticket."""
    workspace = lab.work / "T-1"
    workspace.mkdir()
    for name in ("Bootstrap.sh", "old"):
        (workspace / name).touch()
    age(workspace / "Bootstrap.sh")
    (trash,) = lab.engine.discard(run_name("T-1"), workspace)
    assert not workspace.exists()
    assert lines(await lab.run("ls; exit 3")) == ["Bootstrap.sh"]
    assert remove_tree(trash)
    assert (await lab.ended()).exit_code == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
async def test_what_cannot_be_removed_is_told_once_and_hinders_nobody(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for ticket in ("a-stuck", "b-fine"):
        await lab.run("mkdir data", ticket)
        lab.age(ticket)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"x" * 2_000_000)
    command("mount", "--bind", tmp_path / "precious", lab.work / "a-stuck" / "data")
    try:
        sweeper = with_quota(lab, Quota(bytes=1))
        assert await sweeper.sweep() == 1
        assert await sweeper.sweep() == 0
        assert (tmp_path / "precious" / "file").exists()
        told = [text for text in caplog.messages if text.startswith("Could not delete ")]
        assert told == [f"Could not delete workspace {lab.work / 'a-stuck'}."]
        caplog.clear()
        assert await cleaner(lab).sweep() == 0
        (rest,) = lab.engine.workspaces.trash()
        assert caplog.messages == [f"Could not delete {rest}, the rest of a workspace."]
    finally:
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if (point := line.split()[4]).startswith(str(lab.work)):
                command("umount", point)
    await cleaner(lab).sweep()
    assert list(lab.engine.workspaces.trash()) == []


async def test_a_name_that_is_no_text_is_swept_like_any_other(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    odd = Path(os.fsdecode(os.fsencode(lab.work) + b"/T-\xff"))
    odd.mkdir()
    (odd / "Output.log").touch()
    age(odd / "Output.log")
    assert await cleaner(lab).sweep() == 1
    assert not odd.exists()


async def test_a_work_directory_that_somebody_has_removed_is_no_trouble(lab: Lab) -> None:
    await lab.run("true")
    shutil.rmtree(lab.work)
    assert await with_quota(lab, Quota(bytes=1)).sweep() == 0
    assert (await lab.run("exit 4", "T-2")).exit_code == 4


async def test_the_work_directory_may_be_a_link(new_lab: Callable[..., Lab], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "Work").symlink_to(tmp_path / "elsewhere")
    lab = new_lab(work=tmp_path / "Work")
    await lab.engine.start()
    await lab.run("true", "old")
    lab.age("old")
    assert await cleaner(lab).sweep() == 1
    assert left(tmp_path / "elsewhere") == []
    assert (tmp_path / "Work").is_symlink()


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
    lab.age(ticket, hours / 24)
    return workspace


async def test_the_oldest_go_until_the_bytes_fit(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    for hours in (1, 3, 2):
        await finished(lab, f"{hours}-hours", hours, megabytes=2)
    caplog.set_level(logging.INFO)
    cleaner = with_quota(lab, Quota(bytes=5 * 1024 * 1024))
    assert await cleaner.sweep() == 1
    assert sorted(name for name in await lab.left() if not name.startswith(".")) == ["1-hours", "2-hours"]
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
    assert sorted(name for name in await lab.left() if not name.startswith(".")) == ["1-hours", "2-hours"]


async def test_no_quota_costs_what_runs_or_may_not_have_been_fetched_yet(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await lab.run("true", "just-ended")
    await lab.start("echo ready; sleep 600", "running")
    await lab.started("running")
    age(lab.log_path("running"))
    old = await finished(lab, "old", 3)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "Output.log").write_bytes(b"x" * 1000)
    age(outside / "Output.log")
    (lab.work / "link").symlink_to(outside)
    (old / "link").symlink_to(outside)
    assert await with_quota(lab, Quota(bytes=1, inodes=1)).sweep() == 1
    assert sorted(name for name in await lab.left() if not name.startswith(".")) == ["just-ended", "link", "running"]
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
