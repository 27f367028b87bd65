"""Script service V1 as an old server uses it (docs/spec/services.md, "Script service V1")."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tentacle.contracts.script import ProcessState, ScriptFile, ScriptIsolationLevel, ScriptTicket, ScriptType
from tentacle.contracts.script_v1 import (
    CancelScriptCommand,
    CompleteScriptCommand,
    ScriptStatusRequest,
    ScriptStatusResponse,
    StartScriptCommand,
)
from tentacle.contracts.script_v2 import CompleteScriptCommandV2, ScriptStatusRequestV2
from tentacle.services.service_list import make_dispatcher
from tests.patience import PATIENCE
from tests.services.bench import HALIBUT_ALONE, Bench

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
SERVICE = "IScriptService"


async def start(bench: Bench, body: str = "true", **more: Any) -> str:
    ticket: ScriptTicket = await bench.call(SERVICE, "StartScript", StartScriptCommand(body, **more))
    return ticket.task_id


async def ended(bench: Bench, ticket: str) -> ScriptStatusResponse:
    async with asyncio.timeout(PATIENCE):
        while True:
            request = ScriptStatusRequest(ScriptTicket(ticket), 0)
            status: ScriptStatusResponse = await bench.call(SERVICE, "GetStatus", request)
            if status.state is ProcessState.COMPLETE:
                return status
            await asyncio.sleep(0.01)


@pytest.fixture
def noon(bench: Bench) -> Bench:
    """On a day when it is always noon."""
    bench.dispatcher = make_dispatcher(bench.engine, bench.home, lambda: NOON)
    return bench


@pytest.mark.parametrize(
    ("task", "middle"), [("ServerTasks-9", "9"), (None, ""), ("", ""), ("Custom", "Custom"), ("a b", "a b")]
)
async def test_the_ticket_is_the_original_s(noon: Bench, task: str | None, middle: str) -> None:
    assert await start(noon, task_id=task) == f"20261123120000-{middle}-1"
    assert await start(noon, task_id=task) == f"20261123120000-{middle}-2"


async def test_a_new_agent_within_the_same_second_makes_other_tickets(noon: Bench) -> None:
    (noon.home / "Work" / "20261123120000-9-1").mkdir()
    (noon.home / "Work" / "20261123120000-9-2").mkdir()
    assert await start(noon, task_id="ServerTasks-9") == "20261123120000-9-3"


async def test_starts_at_once_are_runs_of_their_own(bench: Bench) -> None:
    tickets = await asyncio.gather(*(start(bench, f"echo {n}", task_id="ServerTasks-1") for n in range(8)))
    assert len(set(tickets)) == 8
    said = [[e.text for e in (await ended(bench, ticket)).logs] for ticket in tickets]
    assert all(str(n) in lines for n, lines in enumerate(said))


@pytest.mark.parametrize("task", ["../../x", "a/b", "a\\b", "a\nb", "a\0b", "x" * 300, "x" * 70_000, "\x7f"])
async def test_a_task_that_cannot_name_a_workspace(bench: Bench, task: str) -> None:
    message = await bench.refused(SERVICE, "StartScript", StartScriptCommand("true", task_id=task))
    assert "cannot name a workspace" in message
    assert len(message) < 300
    assert await bench.left() == []


async def test_a_life(bench: Bench) -> None:
    body = 'echo general "$@"; exit 1'
    ticket = await start(bench, body, scripts={ScriptType.BASH: 'echo bash "$@"; exit 3'}, arguments=("a", "b c"))
    status = await ended(bench, ticket)
    assert (status.ticket, status.exit_code) == (ScriptTicket(ticket), 3)
    assert "bash a b c" in [entry.text for entry in status.logs]
    complete = CompleteScriptCommand(ScriptTicket(ticket), status.next_log_sequence - 1)
    last: ScriptStatusResponse = await bench.call(SERVICE, "CompleteScript", complete)
    assert (last.state, last.exit_code, last.logs) == (ProcessState.COMPLETE, 3, status.logs[-1:])
    assert not (bench.home / "Work" / ticket).exists()


async def test_without_a_mutex_name_it_is_the_common_one(bench: Bench) -> None:
    status = await ended(bench, await start(bench, isolation_mutex_name=None))
    assert status.logs[1].text == f"Acquiring isolation mutex RunningScript with NoIsolation in {status.ticket.task_id}"


async def test_an_unknown_ticket_is_complete_with_exit_code_0(bench: Bench) -> None:
    for name in ("nowhere", "../x", "", "x" * 70_000, "a\0b"):
        ticket = ScriptTicket(name)
        wanted = ScriptStatusResponse(ticket, (), 7, ProcessState.COMPLETE, 0)
        assert await bench.call(SERVICE, "GetStatus", ScriptStatusRequest(ticket, 7)) == wanted
        assert await bench.call(SERVICE, "CancelScript", CancelScriptCommand(ticket, 7)) == wanted
        assert await bench.call(SERVICE, "CompleteScript", CompleteScriptCommand(ticket, 7)) == wanted
        unborn = await bench.call(SERVICE, "GetStatus", ScriptStatusRequest(ticket, -(2**63)))
        assert unborn.next_log_sequence == 0
    assert await bench.left() == []


async def test_cancel(bench: Bench) -> None:
    ticket = await start(bench, "sleep 60")
    await bench.call(SERVICE, "CancelScript", CancelScriptCommand(ScriptTicket(ticket), 0))
    assert (await ended(bench, ticket)).exit_code != 0


@HALIBUT_ALONE
async def test_a_file_whose_bytes_were_not_kept(bench: Bench) -> None:
    stream, _ = bench.arrived(b"x")
    command = StartScriptCommand("true", files=(ScriptFile("f", stream),))
    message = await bench.refused(SERVICE, "StartScript", command, files={})
    assert message.startswith("There was no room on the disk for the 1 bytes of the script's file 'f'")
    assert await bench.left() == []


async def test_a_run_of_v1_is_known_to_v2(bench: Bench) -> None:
    ticket = ScriptTicket(await start(bench, "exit 9"))
    await ended(bench, ticket.task_id)
    assert (await bench.call("IScriptServiceV2", "GetStatus", ScriptStatusRequestV2(ticket, 0))).exit_code == 9
    await bench.call("IScriptServiceV2", "CompleteScript", CompleteScriptCommandV2(ticket))
    assert (await bench.call(SERVICE, "GetStatus", ScriptStatusRequest(ticket, 0))).exit_code == 0


async def test_the_time_out_of_the_lock_is_the_command_s(bench: Bench) -> None:
    holder = await start(
        bench,
        "sleep 60",
        isolation=ScriptIsolationLevel.FULL_ISOLATION,
        isolation_mutex_name="m",
        task_id="ServerTasks-1",
    )
    waiter = await start(
        bench,
        isolation_mutex_name="m",
        task_id="ServerTasks-2",
        script_isolation_mutex_timeout=timedelta(milliseconds=10),
    )
    assert (await ended(bench, waiter)).exit_code == -44
    await bench.call(SERVICE, "CancelScript", CancelScriptCommand(ScriptTicket(holder), 0))
    await ended(bench, holder)
