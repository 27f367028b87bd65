"""Time limits, slots, and what an earlier server left."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tentacle.devserver.storage import TaskState
from tentacle.devserver.tasks import QueueLimits
from tests.devserver.fake_worker import FakeWorker, MemoryComms
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


class LastingComms(MemoryComms):
    """Whose workers outlive the server."""

    async def close(self) -> None: ...


@pytest.fixture
async def lasting(tmp_path: Path) -> AsyncIterator[LastingComms]:
    (tmp_path / "worker").mkdir()
    comms = LastingComms({URI: FakeWorker(tmp_path / "worker")})
    yield comms
    await comms.workers[URI].close()


async def test_a_script_goes_on_where_a_stopped_server_left_it(tmp_path: Path, lasting: LastingComms) -> None:
    """Started once, each line of it once, masked as before, and its result."""
    go, marks = tmp_path / "go", tmp_path / "marks"
    secret = f"##octopus[mask value='{b64encode(b'swordfish').decode()}']"
    wait = f"until test -e {go}; do sleep 0.02; done"
    body = f'echo mark >> {marks}; echo "{secret}"; echo before; {wait}; echo swordfish; echo after; exit 3'
    async with running_server(tmp_path, lasting) as server:
        await server.worker("w")
        task = await server.script(body, "Workers-1")
        while "before" not in await server.raw(task):
            await asyncio.wait_for(lasting.workers[URI].started.wait(), PATIENCE)
    go.touch()
    async with running_server(tmp_path, lasting) as server:
        again = await server.ended(task)
        assert (again["State"], again["ErrorMessage"]) == ("Failed", "The script on 'w' ended with exit code 3.")
        said = (await server.raw(task)).splitlines()
        assert [sum(line.endswith(word) for line in said) for word in ("before", "after")] == [1, 1]
        assert "swordfish" not in "".join(said), "what was to be masked before the stop still is"
        assert marks.read_text() == "mark\n"
        assert lasting.workers[URI].completed == 1
        assert server.up.api_key == KEY


async def test_a_script_that_was_to_be_cancelled_is_cancelled_by_the_next_server(
    tmp_path: Path, lasting: LastingComms
) -> None:
    async with running_server(tmp_path, lasting) as server:
        await server.worker("w")
        task = await server.script("sleep 1000", "Workers-1")
        await asyncio.wait_for(lasting.workers[URI].started.wait(), PATIENCE)
        await server.up.server.tasks.advance(int(task["Id"].split("-")[1]), TaskState.CANCELLING)
    async with running_server(tmp_path, lasting) as server:
        assert (await server.ended(task))["State"] == "Canceled"
    (script,) = lasting.workers[URI].scripts.values()
    assert script.cancelled


async def test_what_cannot_go_on_fails_when_the_server_starts_again(tmp_path: Path, lasting: LastingComms) -> None:
    """A check of a machine's health, and a script by a service that cannot be asked twice."""
    async with running_server(tmp_path, lasting) as server:
        await server.worker("w")
        worker = lasting.workers[URI]
        worker.capabilities = ("IScriptService", "IFileTransferService")
        script = await server.script("sleep 1000", "Workers-1")
        await asyncio.wait_for(worker.started.wait(), PATIENCE)
        check = await server.health("Workers-1")
    async with running_server(tmp_path, lasting) as again:
        found = await again.get(f"/api/tasks/{check['Id']}")
        assert (found["State"], "stopped" in found["ErrorMessage"]) == ("Failed", True)
        found = await again.ended(script)
        assert (found["State"], "cannot tell what became of it" in found["ErrorMessage"]) == ("Failed", True)
        assert [w["Name"] for w in await again.get("/api/Spaces-1/workers/all")] == ["w"]
    assert worker.calls.count("StartScript") <= 2
