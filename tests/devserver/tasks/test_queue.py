"""Time limits, slots, and what an earlier server left."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tentacle.devserver.tasks import QueueLimits
from tests.devserver.fake_worker import MemoryComms
from tests.devserver.running_server import KEY, URI, RunningServer, running_server
from tests.patience import PATIENCE


async def test_a_task_may_not_take_longer_than_it_is_given(ready: RunningServer) -> None:
    task = await ready.ended(await ready.script("sleep 1000", "Workers-1", Timeout="00:00:00.2"))
    assert (task["State"], task["IsCompleted"]) == ("TimedOut", True)
    (script,) = ready.comms.workers[URI].scripts.values()
    assert script.cancelled


async def test_one_worker_runs_so_many_at_once_and_the_others_wait(tmp_path: Path) -> None:
    async with running_server(tmp_path, limits=QueueLimits(per_worker=1, unfinished=3)) as server:
        await server.worker("w")
        first = await server.script("sleep 1000", "Workers-1")
        await asyncio.wait_for(server.comms.workers[URI].started.wait(), PATIENCE)
        second = await server.script("echo second", "Workers-1")
        third = await server.script("echo third", "Workers-1")
        refused = await server.send(
            "POST", "/api/tasks", json={"Name": "Health", "Arguments": {"MachineIds": ["Workers-1"]}}
        )
        assert refused.status == 503
        assert (await server.get(second["Links"]["Self"]))["State"] == "Queued"
        behind = await server.get(f"/api/tasks/{third['Id']}/queued-behind")
        assert [t["Id"] for t in behind["Items"]] == [first["Id"], second["Id"]]
        await server.post(f"/api/tasks/{third['Id']}/cancel", {}, status=200)
        await server.post(f"/api/tasks/{first['Id']}/cancel", {}, status=200)
        assert [(await server.ended(t))["State"] for t in (first, second, third)] == ["Canceled", "Success", "Canceled"]


async def test_what_a_killed_server_left_is_failed_and_remembered(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await server.worker("w")
        task = await server.script("sleep 1000", "Workers-1")
        await asyncio.wait_for(server.comms.workers[URI].started.wait(), PATIENCE)
    async with running_server(tmp_path, MemoryComms()) as server:
        again = await server.get(f"/api/tasks/{task['Id']}")
        assert (again["State"], again["IsCompleted"]) == ("Failed", True)
        assert "stopped" in again["ErrorMessage"]
        assert [w["Name"] for w in await server.get("/api/Spaces-1/workers/all")] == ["w"]
        assert server.up.api_key == KEY
