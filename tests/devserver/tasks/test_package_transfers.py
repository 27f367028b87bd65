"""Packages on their way to a worker, while tasks are cancelled, packages deleted, and the server started again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tentacle.devserver.storage import TaskState
from tests.devserver.fake_worker import FakeWorker, MemoryComms
from tests.devserver.running_server import URI, RunningServer, running_server
from tests.patience import PATIENCE

WANTED = [{"PackageId": "Acme"}]


@dataclass
class SlowWorker(FakeWorker):
    """Does `before` it answers, with the name of what is called."""

    before: Callable[[str], Awaitable[None]] | None = None

    async def answer(self, service: str, method: str, *given: Any) -> Any:
        if self.before is not None:
            await self.before(method)
        return await super().answer(service, method, *given)


class LastingWorkers(MemoryComms):
    """Workers that outlive the server."""

    async def close(self) -> None: ...


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowWorker:
    home = tmp_path / "worker"
    home.mkdir()
    monkeypatch.setenv("TentacleHome", str(home))
    return SlowWorker(home)


async def pushed(server: RunningServer, name: str = "Acme.1.0.zip") -> None:
    named = {"Content-Disposition": f"attachment; filename={name}"}
    assert (
        await server.send("POST", "/api/packages/raw", data=f"content of {name}".encode(), headers=named)
    ).status == 201


async def test_a_task_is_cancelled_while_its_package_is_sent_or_waits_for_that(
    tmp_path: Path, worker: SlowWorker
) -> None:
    sending, never = asyncio.Event(), asyncio.Event()

    async def stuck(method: str) -> None:
        if method == "UploadFile":
            sending.set()
            await never.wait()

    worker.before = stuck
    async with running_server(tmp_path, MemoryComms({URI: worker})) as server:
        await server.worker("w")
        await pushed(server)
        first = await server.script("true", "Workers-1", Packages=WANTED)
        await asyncio.wait_for(sending.wait(), PATIENCE)
        second = await server.script("true", "Workers-1", Packages=WANTED)
        while (await server.get(second["Links"]["Self"]))["State"] == "Queued":
            pass
        for task in (second, first):
            await server.post(f"/api/tasks/{task['Id']}/cancel", {}, status=200)
        for task in (second, first):
            assert (await server.ended(task))["State"] == "Canceled"
        worker.before = None
        third = await server.ended(await server.script("cat Acme.zip", "Workers-1", Packages=WANTED))
        assert third["State"] == "Success", "the next one has its turn"


async def test_a_package_that_is_deleted_before_it_is_sent_fails_the_task(tmp_path: Path, worker: SlowWorker) -> None:
    async with running_server(tmp_path, MemoryComms({URI: worker})) as server:

        async def deletes(method: str) -> None:
            if method == "StartScript":
                await server.send("DELETE", "/api/Spaces-1/packages/Acme.1.0")

        await server.worker("w")
        await pushed(server)
        worker.before = deletes
        task = await server.ended(await server.script("true", "Workers-1", Packages=WANTED))
        assert task["ErrorMessage"].endswith("The package Acme 1.0 was removed from the feed meanwhile.")


async def test_what_is_not_kept_makes_room_before_anything_is_sent(tmp_path: Path, worker: SlowWorker) -> None:
    there: list[list[str]] = []

    async def looks(method: str) -> None:
        if method == "UploadFile":
            there.append([path.name.split("@")[0] for path in (worker.home / "Files").iterdir()])

    worker.before = looks
    async with running_server(tmp_path, MemoryComms({URI: worker})) as server:
        quantities = {"QuantityOfPackagesToKeep": 1, "QuantityOfVersionsToKeep": 1}
        await server.policy(MachinePackageCacheRetentionPolicy={"Strategy": "Quantities", **quantities})
        await server.worker("w")
        for name in ("Old", "New"):
            await pushed(server, f"{name}.1.0.zip")
            task = await server.script("true", "Workers-1", Packages=[{"PackageId": name}])
            assert (await server.ended(task))["State"] == "Success"
    assert there == [[], []]


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_script_with_a_package_goes_on_or_is_ended_after_a_restart(
    tmp_path: Path, worker: SlowWorker, cancelled: bool
) -> None:
    comms, go = LastingWorkers({URI: worker}), tmp_path / "go"
    body = f"echo begun; until test -e {go}; do sleep 0.02; done; cat Acme.zip"
    async with running_server(tmp_path, comms) as server:
        await server.worker("w")
        await pushed(server)
        task = await server.script(body, "Workers-1", Packages=WANTED)
        while "begun" not in await server.raw(task):
            pass
        # Not even a package that has gone meanwhile keeps the next server from it.
        await server.send("DELETE", "/api/Spaces-1/packages/Acme.1.0")
        if cancelled:
            number = int(task["Id"].partition("-")[2])
            await server.up.server.tasks.advance(number, TaskState.CANCELLING)
    async with running_server(tmp_path, comms) as server:
        if not cancelled:
            go.touch()
        ended = await server.ended(task)
        assert ended["State"] == ("Canceled" if cancelled else "Success"), ended["ErrorMessage"]
        assert ("content" in await server.raw(task)) is not cancelled
    assert all(script.process.returncode is not None for script in worker.scripts.values())
    await worker.close()
