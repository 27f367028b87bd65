"""Starts that wait for the disk at the same time wait for it together, and none of them costs another."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tentacle.scripts.errors import ScriptError
from tentacle.scripts.workspace.batch_sync import BatchSync
from tentacle.scripts.workspace.run_files import RunFiles
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.workspaces import Workspaces
from tests.patience import PATIENCE
from tests.scripts.lab import until


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    workspaces = Workspaces(tmp_path)
    workspaces.ensure()
    return workspaces


def preparing(workspaces: Workspaces, ticket: str) -> Callable[[], RunFiles]:
    return lambda: workspaces.prepare(RunHeader(ticket, "Task", "M", 0, None, ()), "echo", ())


async def test_starts_that_come_meanwhile_share_the_next_sync(workspaces: Workspaces) -> None:
    """While a turn is under way, here held up by a busy thread, all others become one turn behind it."""
    busy, free = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        free.wait(PATIENCE)

    threads = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(threads)
    threads.submit(hold)
    busy.wait(PATIENCE)
    sync = BatchSync(workspaces.runs.path)
    waiting = [asyncio.create_task(sync.make(preparing(workspaces, f"T-{number}"))) for number in range(6)]
    await until(lambda: not threads._work_queue.empty())
    # One turn for the first that came, the rest waits for the next one.
    assert threads._work_queue.qsize() == 1
    free.set()
    runs = await asyncio.gather(*waiting)
    assert [run.header.ticket for run in runs] == [f"T-{number}" for number in range(6)]
    for run in [*runs, await sync.make(preparing(workspaces, "T-6"))]:
        run.close()
    await sync.aclose()


async def test_a_failure_belongs_to_its_own_start(workspaces: Workspaces) -> None:
    pipe, writer = os.pipe()

    def not_to_be_synced() -> RunFiles:
        run = preparing(workspaces, "T-1")()
        os.dup2(pipe, run.run, inheritable=False)
        return run

    def not_to_be_made() -> RunFiles:
        raise ScriptError("no room")

    sync = BatchSync(workspaces.runs.path)
    wanted = (not_to_be_synced, not_to_be_made, preparing(workspaces, "T-2"))
    unsynced, unmade, run = await asyncio.gather(*map(sync.make, wanted), return_exceptions=True)
    os.close(pipe)
    os.close(writer)
    assert isinstance(unsynced, ScriptError)
    assert "T-1' could not be prepared: Invalid argument" in unsynced.message
    assert isinstance(unmade, ScriptError)
    assert unmade.message == "no room"
    assert isinstance(run, RunFiles)
    run.close()
    assert list(workspaces.runs.names()) == [run.name], "what was not synced is no run"


async def test_a_caller_that_is_cancelled_leaves_its_run_to_the_next_agent(workspaces: Workspaces) -> None:
    made: list[RunFiles] = []

    def prepare() -> RunFiles:
        made.append(preparing(workspaces, "T-1")())
        return made[0]

    sync = BatchSync(workspaces.runs.path)
    left = asyncio.create_task(sync.make(prepare))
    fine = asyncio.create_task(sync.make(preparing(workspaces, "T-2")))
    await asyncio.sleep(0)
    left.cancel()
    run = await fine
    await asyncio.gather(left, return_exceptions=True)
    assert not made[0].opened
    run.close()
    assert sorted(workspaces.runs.names()) == sorted([made[0].name, run.name])


async def test_without_the_directory_nothing_is_on_the_disk(workspaces: Workspaces) -> None:
    def prepare() -> RunFiles:
        run = preparing(workspaces, "T-1")()
        shutil.rmtree(workspaces.runs.path)
        return run

    with pytest.raises(ScriptError, match="could not be prepared: No such file or directory"):
        await BatchSync(workspaces.runs.path).make(prepare)


async def test_where_no_thread_can_be_started_the_callers_hear_of_it(workspaces: Workspaces) -> None:
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(threads)
    sync = BatchSync(workspaces.runs.path)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await sync.make(preparing(workspaces, "T-1"))
    loop.set_default_executor(ThreadPoolExecutor(1))
    (await sync.make(preparing(workspaces, "T-1"))).close()
