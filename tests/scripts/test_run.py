"""One run as the agent sees it: its waiting, its launching, its end, and what a cancel meets."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState, ScriptIsolationLevel
from tentacle.scripts.launch.shim_pool import Shim
from tentacle.scripts.shim.run_order import RunOrder
from tentacle.scripts.workspace.run_files import run_name
from tests.scripts.lab import HELD, QUICK, Lab, lines

FULL = ScriptIsolationLevel.FULL_ISOLATION


async def test_full_isolation_waits_for_others_and_says_so(lab: Lab) -> None:
    await lab.start(f"echo ready; {HELD}", "T-1", task_id="ServerTasks-1")
    await lab.started()
    await lab.start("echo mine", "T-2", isolation=FULL, task_id="ServerTasks-2")
    await lab.started("T-2", "##octopus[stdout-wait]")
    lab.let_go()
    status = await lab.ended("T-2")
    assert [e.text for e in status.entries][3:6] == [
        "##octopus[stdout-wait]",
        "Waiting for the script in task [ServerTasks-1](~/app#/tasks/ServerTasks-1) to finish as this script requires "
        "that no other Octopus scripts are executing on this target at the same time.",
        "##octopus[stdout-default]",
    ]
    assert status.exit_code == 0


async def test_a_wait_that_takes_too_long_ends_without_running(lab: Lab) -> None:
    await lab.start("echo ready; sleep 60", "T-1", isolation=FULL, task_id="A")
    await lab.started()
    status = await lab.run("touch ../ran", "T-2", task_id="B", mutex_timeout=timedelta(seconds=0.2))
    assert status.exit_code == ScriptExitCode.TIMEOUT
    assert [e.text for e in status.entries][-2:] == [
        "This task waited more than 0 minutes and timed out. Task [A](~/app#/tasks/A) is still running.",
        "Script execution timed out.",
    ]
    assert not (lab.work / "ran").exists()


class Launcher:
    """Launches real shims, after `change` of their orders, and remembers how it was asked."""

    def __init__(self, lab: Lab, change: Callable[[RunOrder], RunOrder]) -> None:
        self._launch = lab.engine._context.launch
        self._change = change
        self.asked: list[bool] = []
        self.orders: list[RunOrder] = []

    async def __call__(self, order: RunOrder, cgroup: str, *, fresh: bool) -> Shim:
        self.asked.append(fresh)
        self.orders.append(order)
        return await self._launch(self._change(order), cgroup, fresh=fresh)


def launching(lab: Lab, change: Callable[[RunOrder], RunOrder] = lambda order: order) -> Launcher:
    launcher = Launcher(lab, change)
    lab.engine._context = replace(lab.engine._context, launch=launcher)
    return launcher


async def test_a_shim_that_dies_before_it_has_begun_is_replaced_a_few_times(lab: Lab) -> None:
    """Nothing was run, so it may be tried again, with a shim that is not used for anything else."""
    launcher = launching(lab, lambda order: order._replace(run="/nowhere"))
    status = await lab.run("touch ../ran")
    assert (status.state, status.exit_code) == (ProcessState.COMPLETE, ScriptExitCode.INVOCATION_ERROR)
    assert status.entries[-1].text == (
        "An exception was thrown when invoking /bin/bash: The process that watches over the script ends as soon as it "
        "is started"
    )
    assert launcher.asked == [False, True, True]
    assert not (lab.work / "ran").exists()
    lab.engine._context = replace(lab.engine._context, launch=launcher._launch)
    assert lines(await lab.run("echo fine", "T-2", isolation=FULL)) == ["fine"], "the lock was released"


async def test_a_cancel_that_comes_while_a_shim_is_made_runs_nothing(lab: Lab) -> None:
    entered, go = asyncio.Event(), asyncio.Event()
    launcher = launching(lab, lambda order: order._replace(run="/nowhere"))

    async def slowly(order: RunOrder, cgroup: str, *, fresh: bool) -> Shim:
        entered.set()
        await go.wait()
        return await launcher(order, cgroup, fresh=fresh)

    lab.engine._context = replace(lab.engine._context, launch=slowly)
    await lab.start("touch ../ran")
    await entered.wait()
    status = await lab.engine.status("T-1", 0)
    assert status is not None
    assert status.state is ProcessState.RUNNING
    go.set()
    await lab.engine.cancel("T-1", 0)
    status = await lab.ended()
    assert (status.exit_code, status.entries[-1].text) == (ScriptExitCode.CANCELLED, "Script execution canceled.")
    assert launcher.asked == [False], "it is not tried again"
    assert not (lab.work / "ran").exists()


async def test_an_order_says_what_runs_where_and_as_whom(lab: Lab) -> None:
    launcher = launching(lab)
    await lab.run("true", arguments=('"a b"', "c"))
    (order,) = launcher.orders
    workspace = lab.work / "T-1"
    assert order.workspace == str(workspace)
    assert order.script == f"{workspace}/Bootstrap.sh"
    assert order.arguments == ("a b", "c")
    assert order.environment["TENTACLE_LAB"] == lab.mark.split("=")[1]
    assert order.grace == QUICK.cancel_grace
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert order.preamble == (
        "Executable directory is /bin",
        "Executable name or full path: /bin/bash",
        f"Starting /bin/bash in working directory '{workspace}' using 'Unicode (UTF-8)' encoding running as '{user}'",
    )


async def test_an_error_of_ours_ends_the_run_and_frees_its_lock(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_order: RunOrder) -> RunOrder:
        raise ZeroDivisionError("a mistake")

    launcher = launching(lab, broken)
    status = await lab.run("true", isolation=FULL)
    assert (status.state, status.exit_code) == (ProcessState.COMPLETE, ScriptExitCode.FATAL)
    assert "Lost control of script T-1: a mistake" in caplog.text
    lab.engine._context = replace(lab.engine._context, launch=launcher._launch)
    assert lines(await lab.run("echo fine", "T-2", isolation=FULL)) == ["fine"]


async def test_a_long_part_of_the_log_is_read_beside_other_work(lab: Lab) -> None:
    await lab.run("seq 1 60000")
    run = lab.engine._runs[run_name("T-1")]
    reading = asyncio.create_task(run.page(0, 10_000_000))
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    page = await reading
    assert turns > 1
    assert [entry.text for entry in page.entries][6:-1] == [str(n) for n in range(1, 60_001)]
