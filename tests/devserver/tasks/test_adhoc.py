"""Where a script runs, and what becomes known when it cannot."""

from __future__ import annotations

import asyncio

from tentacle.calling.caller import WorkerCallFailed
from tests.devserver.running_server import POLL, URI, RunningServer
from tests.patience import PATIENCE


async def test_a_worker_that_is_not_there_fails_the_task(ready: RunningServer) -> None:
    del ready.comms.workers[URI]
    task = await ready.ended(await ready.script("true", "Workers-1"))
    assert task["State"] == "Failed"
    assert f"Nobody answers at {URI}" in task["ErrorMessage"]
    assert task["StartTime"]


async def test_a_worker_that_goes_away_in_the_middle_fails_the_task(ready: RunningServer) -> None:
    worker = ready.comms.workers[URI]
    task = await ready.script("sleep 1000", "Workers-1")
    await asyncio.wait_for(worker.started.wait(), PATIENCE)
    worker.fail_next.append(WorkerCallFailed("The connection broke", connected=True))
    ended = await ready.ended(task)
    assert ended["State"] == "Failed"
    assert worker.calls[-1] == "CancelScript", "a script that nobody watches is cancelled, and not completed"


async def test_a_script_runs_on_all_workers_of_a_pool(ready: RunningServer) -> None:
    await ready.worker("second", uri=POLL)
    task = await ready.ended(await ready.script("exit 0", WorkerPoolIds=["WorkerPools-1"], TargetType="WorkerPools"))
    assert task["State"] == "Success"
    details = await ready.get(f"/api/tasks/{task['Id']}/details")
    assert sorted(c["Name"] for c in details["ActivityLogs"][0]["Children"]) == [
        "Run script on second",
        "Run script on w",
    ]


async def test_a_script_runs_on_the_targets_of_an_environment_alone(ready: RunningServer) -> None:
    target = {"Name": "t", "EnvironmentIds": ["Environments-1"], "Roles": ["web"], "SkipInitialHealthCheck": True}
    endpoint = {"CommunicationStyle": "TentacleActive", "Thumbprint": "A" * 40, "Uri": POLL}
    await ready.post("/api/Spaces-1/machines", {**target, "Endpoint": endpoint})
    arguments = {"EnvironmentIds": ["Environments-1"], "TargetRoles": ["WEB"], "TargetType": "Environments"}
    task = await ready.ended(await ready.script("echo x", **arguments))
    assert task["State"] == "Success"
    assert "Isolation FULL_ISOLATION" in await ready.raw(task)


async def test_unknown_and_disabled_workers_are_said_by_name(ready: RunningServer) -> None:
    nobody = await ready.ended(await ready.script("true", "Workers-1", "Workers-9"))
    assert nobody["State"] == "Failed"
    assert "workers-9" in await ready.raw(nobody)
    await ready.put("/api/Spaces-1/workers/Workers-1", {"IsDisabled": True})
    disabled = await ready.ended(await ready.script("true", "Workers-1"))
    assert disabled["ErrorMessage"] == "'w' is disabled."
