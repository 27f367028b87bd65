"""When machines are checked and deleted without being asked, by a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tentacle.calling.retry import Time
from tentacle.devserver.storage import POLICY_DEFAULTS
from tentacle.devserver.storage.kinds import POLICIES, WORKERS, read_body
from tentacle.devserver.tasks.schedule import Schedule, check_is_due
from tentacle.devserver.worker.machines import read_policy
from tests.devserver.running_server import RunningServer

LAST = datetime(2026, 3, 28, 7, 30, tzinfo=UTC)


def at(day: int, hour: int, minute: int = 0, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "before", "due"),
    [
        ("0 9 * * *", "UTC", at(28, 8, 59), at(28, 9)),
        ("0 0 9 * * *", "Europe/Berlin", at(28, 7, 59), at(28, 8)),
        ("30 8 * * *", "Europe/Berlin", at(29, 6, 29), at(29, 6, 30)),  # this day is the first of summer time
        ("0 9 * * MON-FRI", "America/New_York", at(30, 12, 59), at(30, 13)),
        ("0 0 12 1 4 ? 2026", "Asia/Kathmandu", at(1, 6, 14, 4), at(1, 6, 15, 4)),
    ],
)
def test_a_check_is_due_by_the_clock_of_its_time_zone(cron: str, zone: str, before: datetime, due: datetime) -> None:
    policy = replace(read_policy(POLICY_DEFAULTS), health_cron=cron, health_zone=zone, health_interval=None)
    assert [check_is_due(policy, LAST, now) for now in (before, due)] == [False, True]


def test_a_cron_expression_whose_years_are_over_is_never_due() -> None:
    policy = replace(read_policy(POLICY_DEFAULTS), health_cron="0 0 12 1 1 ? 2026", health_interval=None)
    assert not check_is_due(policy, LAST, LAST + timedelta(days=1000))


def test_without_interval_and_cron_a_check_is_never_due() -> None:
    policy = replace(read_policy(POLICY_DEFAULTS), health_interval=None)
    assert not check_is_due(policy, LAST, LAST + timedelta(days=1000))


@pytest.mark.parametrize(("after", "checks"), [(59, 0), (61, 1)])
async def test_a_worker_that_was_never_checked_has_its_turn_too(server: RunningServer, after: int, checks: int) -> None:
    await server.worker("w")
    up, began = server.up.server, datetime.now(UTC)
    now = began + timedelta(minutes=after)
    await Schedule(up.machines, up.queue, lambda: now, Time(lambda: 0.0), began).look()
    await server.idle()
    assert (await server.get("/api/tasks"))["TotalResults"] == checks


async def test_a_worker_that_answers_again_in_time_is_kept(server: RunningServer) -> None:
    """The deletion looks once more when its turn comes."""
    cleanup = {"DeleteMachinesBehavior": "DeleteUnavailableMachines", "DeleteMachinesElapsedTimeSpan": "01:00:00"}
    await server.policy(MachineCleanupPolicy=cleanup)
    made = await server.worker("w")
    up = server.up.server

    async def seen(health: str, since: str | None) -> None:
        worker = await up.store.get(WORKERS, "Spaces-1", made["Id"])
        assert worker is not None
        now = datetime.now(UTC).isoformat()
        await up.store.observe(worker, {"HealthStatus": health, "UnavailableSince": since, "LastChecked": now})

    later = datetime.now(UTC) + timedelta(hours=2)
    schedule = Schedule(up.machines, up.queue, lambda: later, Time(lambda: 0.0), later)
    await seen("Unavailable", datetime.now(UTC).isoformat())
    await schedule.look()
    await seen("Healthy", None)
    await server.idle()
    assert [t["Name"] for t in (await server.get("/api/tasks"))["Items"]] == ["Delete"]
    assert [w["Name"] for w in await server.get("/api/Spaces-1/workers/all")] == ["w"]


@pytest.mark.parametrize("script", ["", None])
def test_an_empty_script_is_none(script: Any) -> None:
    own = {"BashHealthCheckPolicy": {"RunType": "InheritFromDefault", "ScriptBody": script}}
    found = read_body(POLICIES, {"Name": "p", "MachineHealthCheckPolicy": own})
    assert read_policy(found).health_script is None
