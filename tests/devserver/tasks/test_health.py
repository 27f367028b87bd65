"""Health checks: at registration, on demand, by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tentacle.calling.retry import Time
from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.devserver.tasks.health import MARK, HealthReport
from tentacle.devserver.tasks.schedule import Schedule
from tests.devserver.running_server import POLL, URI, RunningServer
from tests.patience import PATIENCE


async def test_a_worker_is_checked_when_it_registers(server: RunningServer) -> None:
    await server.worker("w", SkipInitialHealthCheck=False)
    await server.idle()
    worker = await server.get("/api/Spaces-1/workers/Workers-1")
    assert (worker["Status"], worker["HealthStatus"]) == ("Online", "Healthy")
    assert worker["Endpoint"]["TentacleVersionDetails"]["Version"] == "8.1.2"
    assert worker["ShellName"] == "Bash"
    assert "Unknown" not in (worker["OperatingSystem"], worker["Architecture"], worker["ShellVersion"])
    (task,) = (await server.get("/api/tasks"))["Items"]
    assert (task["Name"], task["State"], task["Description"]) == ("Health", "Success", "Initial health check of w")


async def test_unless_that_is_not_wanted(server: RunningServer) -> None:
    await server.worker("w")
    assert (await server.get("/api/tasks"))["Items"] == []


async def test_the_connection_document_shows_the_last_check(server: RunningServer) -> None:
    await server.worker("w", SkipInitialHealthCheck=False)
    await server.idle()
    connection = await server.get("/api/Spaces-1/workers/Workers-1/connection")
    assert (connection["MachineId"], connection["Status"]) == ("Workers-1", "Online")
    assert connection["CurrentTentacleVersion"] == "8.1.2"
    assert connection["LastChecked"]
    assert any("Capabilities: IScriptService" in line["MessageText"] for line in connection["Logs"])


async def test_the_connection_of_a_worker_shows_that_worker_alone(server: RunningServer) -> None:
    await server.no_retries()
    await server.worker("good", uri=POLL)
    await server.worker("bad")
    del server.comms.workers[URI]
    await server.ended(await server.health("Workers-1", "Workers-2"))
    shown = {
        name: " ".join(line["MessageText"] for line in (await server.get(f"/api/workers/{name}/connection"))["Logs"])
        for name in ("Workers-1", "Workers-2")
    }
    assert "is up" in shown["Workers-1"]
    assert "Nobody" not in shown["Workers-1"]
    assert "Nobody answers" in shown["Workers-2"]
    assert "is up" not in shown["Workers-2"]


async def test_a_worker_that_was_never_checked_has_a_moment_nevertheless(server: RunningServer) -> None:
    """The .NET client reads it as a time that is never null."""
    await server.worker("w")
    connection = await server.get("/api/Spaces-1/workers/Workers-1/connection")
    assert connection["LastChecked"].startswith("0001-01-01T00:00:00")
    assert connection["Logs"] == []


@pytest.mark.parametrize("replaced", ["moved", "gone"])
async def test_a_late_result_for_an_endpoint_that_was_replaced_changes_nothing(
    server: RunningServer, replaced: str, tmp_path: Path
) -> None:
    gate = tmp_path / "go"
    script = {"RunType": "Inline", "ScriptBody": f"until [ -e {gate} ]; do sleep 0.02; done; fail_healthcheck late"}
    await server.policy(MachineHealthCheckPolicy={"BashHealthCheckPolicy": script})
    made = await server.worker("w")
    task = await server.health("Workers-1")
    await asyncio.wait_for(server.comms.workers[URI].started.wait(), PATIENCE)
    if replaced == "gone":
        await server.send("DELETE", made["Links"]["Self"])
    else:
        made["Endpoint"]["Uri"] = "https://elsewhere:1/"
        await server.put(made["Links"]["Self"], {**made, "SkipInitialHealthCheck": True})
    gate.touch()
    assert (await server.ended(task))["State"] == "Success"
    assert "'w' has been replaced or deleted meanwhile." in await server.raw(task)
    assert [w["HealthStatus"] for w in await server.get("/api/workers/all")] == ["Unknown"] * (replaced == "moved")


async def test_a_worker_that_does_not_answer_is_unavailable(server: RunningServer) -> None:
    await server.no_retries()
    await server.worker("w")
    del server.comms.workers[URI]
    task = await server.ended(await server.health("Workers-1"))
    assert task["State"] == "Failed"
    worker = await server.get("/api/Spaces-1/workers/Workers-1")
    assert (worker["Status"], worker["HealthStatus"]) == ("Offline", "Unavailable")
    assert worker["StatusSummary"] == f"Nobody answers at {URI}"


async def test_a_silent_worker_is_given_up_after_its_time(server: RunningServer) -> None:
    await server.worker("w")
    server.comms.silent.add(URI)
    task = await server.ended(await server.health("Workers-1", MachineTimeout="00:00:00.1"))
    assert task["State"] == "Failed"
    worker = await server.get("/api/Spaces-1/workers/Workers-1")
    assert (worker["HealthStatus"], worker["StatusSummary"]) == (
        "Unavailable",
        "It did not answer within 00:00:00.1.",
    )


async def test_a_check_is_cancelled_while_nobody_answers(server: RunningServer) -> None:
    await server.worker("w")
    server.comms.silent.add(URI)
    task = await server.health("Workers-1")
    await asyncio.wait_for(server.comms.called.wait(), PATIENCE)
    await server.post(f"/api/tasks/{task['Id']}/cancel", {}, status=200)
    assert (await server.ended(task))["State"] == "Canceled"


async def test_one_bad_worker_does_not_hide_the_good_one(server: RunningServer) -> None:
    await server.no_retries()
    await server.worker("good", uri=POLL)
    await server.worker("bad")
    del server.comms.workers[URI]
    task = await server.ended(await server.health(WorkerpoolId="WorkerPools-1", RestrictedTo="Workers"))
    assert task["State"] == "Failed"
    health = {w["Name"]: w["HealthStatus"] for w in await server.get("/api/Spaces-1/workers/all")}
    assert health == {"good": "Healthy", "bad": "Unavailable"}


async def test_a_moved_worker_is_unknown_until_it_is_checked_again(server: RunningServer) -> None:
    made = await server.worker("w", SkipInitialHealthCheck=False)
    await server.idle()
    server.comms.silent.add("https://elsewhere:1/")
    made["Endpoint"]["Uri"] = "https://elsewhere:1/"
    moved = await server.put(made["Links"]["Self"], made)
    assert moved["HealthStatus"] == "Unknown"


async def test_a_worker_that_is_written_back_as_it_was_read_has_not_moved(server: RunningServer) -> None:
    """What the server found out stands in the document, and comes back with it."""
    await server.worker("w", SkipInitialHealthCheck=False)
    await server.idle()
    read = await server.get("/api/Spaces-1/workers/Workers-1")
    assert (await server.put(read["Links"]["Self"], {**read, "Name": "v"}))["HealthStatus"] == "Healthy"
    assert (await server.get("/api/tasks"))["TotalResults"] == 1


async def test_only_connectivity_asks_for_no_script(server: RunningServer) -> None:
    await server.policy(MachineHealthCheckPolicy={"HealthCheckType": "OnlyConnectivity"})
    await server.worker("w")
    assert (await server.ended(await server.health("Workers-1")))["State"] == "Success"
    assert server.comms.workers[URI].calls == ["GetCapabilities"]


async def test_with_no_machine_there_is_nothing_to_do(server: RunningServer) -> None:
    assert (await server.ended(await server.health("Workers-5")))["State"] == "Success"


async def test_an_old_worker_is_healthy_too(server: RunningServer) -> None:
    server.comms.workers[URI].capabilities = None
    await server.worker("w")
    assert (await server.ended(await server.health("Workers-1")))["State"] == "Success"
    assert server.comms.workers[URI].calls[:2] == ["GetCapabilities", "StartScript"]


@pytest.mark.parametrize(("later", "checks"), [(59, 1), (61, 2)])
async def test_the_policy_says_how_often(server: RunningServer, later: int, checks: int) -> None:
    await server.worker("w", SkipInitialHealthCheck=False)
    await server.idle()
    await server.policy(MachineHealthCheckPolicy={"HealthCheckInterval": "01:00:00"})
    up = server.up.server
    now = datetime.now(UTC) + timedelta(minutes=later)
    schedule = Schedule(up.machines, up.queue, lambda: now, Time(lambda: 0.0), now)
    await schedule.look()
    await schedule.look()
    await server.idle()
    assert (await server.get("/api/tasks"))["TotalResults"] == checks, "and never twice at once"


def test_details_are_the_known_ones_of_standard_output_cut_and_cleaned() -> None:
    lines: Sequence[tuple[ProcessOutputSource, str]] = [
        (ProcessOutputSource.STD_OUT, f"{MARK}OperatingSystem= Debian\x1b[31m "),
        (ProcessOutputSource.STD_OUT, f"{MARK}HealthStatus=Healthy"),
        (ProcessOutputSource.STD_ERR, f"{MARK}ShellName=fish"),
        (ProcessOutputSource.STD_OUT, f"{MARK}ShellVersion={'9' * 1000}"),
        (ProcessOutputSource.STD_OUT, f"{MARK}TentacleVersion="),
        (ProcessOutputSource.STD_OUT, "Architecture=none"),
    ]
    report = HealthReport()
    report.read([ProcessOutput(source, 0, text) for source, text in lines])
    assert report.details == {"OperatingSystem": "Debian[31m", "ShellVersion": "9" * 200}
