"""Limits of memory, processors and tasks for each script, in real cgroups of either version.

They need a cgroup with these controllers that this process may use, as root or handed over by systemd.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessOutputSource
from tentacle.scripts.engine import EngineOptions
from tentacle.scripts.errors import SandboxUnavailableError
from tentacle.scripts.sandbox.cgroups import ScriptLimits
from tentacle.scripts.sandbox.sandbox import Mode, SandboxOptions
from tentacle.scripts.shim.run_processes import MARK
from tests.scripts.lab import Lab, lines
from tests.scripts.sandboxes import cgroup_parents, living, options

MEBIBYTE = 1024 * 1024
NO_LIMIT = {
    "memory.max": "max",
    "cpu.max": "max 100000",
    "pids.max": "max",
    "cpu.cfs_quota_us": "-1",
}


async def limited(new_lab: Callable[..., Lab], mode: Mode = Mode.NONE, **limits: float) -> Lab:
    lab = new_lab(options(SandboxOptions(mode, ScriptLimits(**limits))))  # type: ignore[arg-type]
    await lab.engine.start()
    return lab


async def started_mark(lab: Lab) -> str:
    """Starts a script that sleeps, and returns the mark of its run."""
    await lab.start(f"echo ${MARK}; echo ready; sleep 600")
    await lab.started()
    status = await lab.engine.status("T-1", 0)
    assert status is not None
    return next(entry.text for entry in status.entries if len(entry.text) == 32)


def own_directories(limits: ScriptLimits, mark: str) -> list[Path]:
    return [Path(directory) for directory in cgroup_parents(limits).order(f"T-1-{mark}", limits).directories]


async def test_the_limits_are_those_of_the_scripts_own_cgroup(new_lab: Callable[..., Lab]) -> None:
    limits = ScriptLimits(memory=64 * MEBIBYTE, cpu=0.02, tasks=100)
    lab = await limited(new_lab, memory=64 * MEBIBYTE, cpu=0.02, tasks=100)
    mark = await started_mark(lab)
    order = cgroup_parents(limits).order(f"T-1-{mark}", limits)
    for index, file, value, must in order.limits:
        path = Path(order.directories[index]) / file
        assert path.read_text().strip() == value or not must
    await lab.engine.cancel("T-1", 0)
    await lab.ended()
    assert [path for path in own_directories(limits, mark) if path.exists()] == []


@pytest.mark.parametrize("mode", [Mode.NONE, Mode.PRIVATE])
async def test_a_memory_hog_is_killed_and_the_log_says_so(new_lab: Callable[..., Lab], mode: Mode) -> None:
    lab = await limited(new_lab, mode, memory=32 * MEBIBYTE)
    status = await lab.run("echo before; head -c 300M /dev/zero | tail")
    assert status.exit_code == 137
    assert "before" in lines(status)
    said = [entry.text for entry in status.entries if entry.source is ProcessOutputSource.STD_ERR]
    assert said[-1] == "The script has met its memory limit of 32 MiB: processes of it were killed."
    # Everybody else goes on.
    assert lines(await lab.run("echo after", "T-2")) == ["after"]


async def test_a_fork_bomb_meets_the_task_limit_and_nobody_else_does(new_lab: Callable[..., Lab]) -> None:
    lab = await limited(new_lab, tasks=20)
    await lab.start("echo ready; bomb() { bomb | bomb & }; bomb; sleep 600")
    await lab.started()
    await lab.until("T-1", lambda status: any("fork" in entry.text for entry in status.entries))
    assert len(living(str(lab.work / "T-1"))) <= 20
    assert lines(await lab.run("echo fine", "T-2")) == ["fine"]
    await lab.engine.cancel("T-1", 0)
    status = await lab.ended()
    assert status.exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    assert any(entry.text.startswith("The script has met its limit of 20 tasks: ") for entry in status.entries)
    assert lab.alive() == []


async def test_a_limit_in_which_nothing_can_run_is_refused_at_the_start(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(options(SandboxOptions(limits=ScriptLimits(memory=4096))))
    with pytest.raises(SandboxUnavailableError, match="the limits that are set"):
        await lab.engine.start()
    assert await lab.left() == []


async def test_a_later_agent_gives_a_running_script_its_own_limits_again(new_lab: Callable[..., Lab]) -> None:
    """They were taken away in between, as systemd before 254 does; whatever is set for new ones meanwhile."""
    limits = ScriptLimits(memory=64 * MEBIBYTE, cpu=0.02, tasks=100)
    lab = await limited(new_lab, memory=64 * MEBIBYTE, cpu=0.02, tasks=100)
    mark = await started_mark(lab)
    await lab.engine.aclose()
    order = cgroup_parents(limits).order(f"T-1-{mark}", limits)
    wanted = [(Path(order.directories[i]) / file, value) for i, file, value, must in order.limits if must]
    for file, _ in wanted:
        if file.name in NO_LIMIT:
            file.write_text(NO_LIMIT[file.name])
    later = new_lab(options(SandboxOptions(limits=ScriptLimits(memory=128 * MEBIBYTE, cpu=1, tasks=50))), lab.work)
    await later.engine.start()
    assert {file.name for file, _ in wanted} & set(NO_LIMIT)
    assert [file.read_text().strip() for file, _ in wanted] == [value for _, value in wanted]
    await later.engine.cancel("T-1", 0)
    await later.ended()


def test_no_limit_asks_for_nothing() -> None:
    assert not EngineOptions().sandbox.asks
    assert SandboxOptions(limits=ScriptLimits(tasks=8)).asks
