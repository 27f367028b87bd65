"""Script service V2: the caller names the ticket and may repeat every call (docs/spec/services.md,
"Script service V2").
"""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from typing import Any

import pytest

from tentacle.contracts.script import ProcessState, ScriptFile, ScriptTicket
from tentacle.contracts.script_v2 import (
    CancelScriptCommandV2,
    CompleteScriptCommandV2,
    ScriptStatusRequestV2,
    ScriptStatusResponseV2,
    StartScriptCommandV2,
)
from tentacle.services.errors import ShuttingDown
from tests.patience import PATIENCE
from tests.services.bench import HALIBUT_ALONE, Bench

SERVICE = "IScriptServiceV2"
WAIT = timedelta(seconds=PATIENCE)


async def start(bench: Bench, body: str, ticket: str = "T", wait: timedelta | None = WAIT, **more: Any) -> Any:
    command = StartScriptCommandV2(ScriptTicket(ticket), body, duration_to_wait_for_script_to_finish=wait, **more)
    return await bench.call(SERVICE, "StartScript", command)


async def status(bench: Bench, ticket: str = "T", after: int = 0) -> ScriptStatusResponseV2:
    answer: ScriptStatusResponseV2 = await bench.call(
        SERVICE, "GetStatus", ScriptStatusRequestV2(ScriptTicket(ticket), after)
    )
    return answer


def said(answer: ScriptStatusResponseV2) -> list[str]:
    return [entry.text for entry in answer.logs]


async def test_a_script_that_is_waited_for_answers_with_everything(bench: Bench) -> None:
    answer = await start(bench, "echo one; exit 3", task_id="ServerTasks-1")
    assert (answer.state, answer.exit_code, answer.next_log_sequence) == (ProcessState.COMPLETE, 3, len(answer.logs))
    assert "one" in said(answer)
    assert answer == await status(bench)
    assert (await status(bench, after=2)).logs == answer.logs[2:]
    assert (await status(bench, after=-(2**63))).logs == answer.logs
    assert (await status(bench, after=2**63 - 1)).next_log_sequence == 2**63 - 1


async def test_a_repeated_start_runs_nothing_and_tells_everything(bench: Bench) -> None:
    body = "echo run >> ../count; echo done"
    first = await start(bench, body)
    again = await start(bench, "echo other; exit 9", wait=None)
    assert again == first
    assert (bench.home / "Work" / "count").read_text() == "run\n"


async def test_five_starts_at_once_are_one_script(bench: Bench) -> None:
    body = "echo run >> ../count; read -r _ < fifo || true"
    answers = await asyncio.gather(*(start(bench, body, "Tt" if n % 2 else "tT", None) for n in range(5)))
    assert {answer.ticket.task_id for answer in answers} == {"Tt", "tT"}
    assert (await start(bench, "", "TT")).state is ProcessState.COMPLETE
    assert (bench.home / "Work" / "count").read_text() == "run\n"


async def test_the_answer_names_the_ticket_as_the_caller_does(bench: Bench) -> None:
    await start(bench, "exit 4", "Mixed")
    assert (await status(bench, "mIXED")).ticket == ScriptTicket("mIXED")
    assert (await status(bench, "mIXED")).exit_code == 4


async def test_a_wait_that_is_too_short(bench: Bench) -> None:
    for wait in (None, timedelta(0), timedelta(seconds=-5), timedelta(milliseconds=50)):
        answer = await start(bench, "sleep 60", wait=wait)
        assert (answer.exit_code, answer.state is ProcessState.COMPLETE) == (0, False)
    cancelled = await bench.call(SERVICE, "CancelScript", CancelScriptCommandV2(ScriptTicket("T"), 0))
    assert said(cancelled)[1].startswith("Acquiring isolation mutex RunningScript with NoIsolation in T")
    final = await start(bench, "")
    assert (final.state, final.exit_code) == (ProcessState.COMPLETE, -1)
    again = await bench.call(SERVICE, "CancelScript", CancelScriptCommandV2(ScriptTicket("T"), 0))
    assert again == final


async def test_a_start_whose_connection_dies_is_carried_out(bench: Bench) -> None:
    """The caller's end is no end of the work (docs/spec/services.md, "Calls and connections"): here even the waiting
    itself is cut off.
    """
    call = asyncio.ensure_future(start(bench, "echo run >> ../count; sleep 0.2; exit 6", wait=timedelta(hours=1)))
    while not (bench.home / "Work" / "count").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (await start(bench, "")).exit_code == 6
    assert (bench.home / "Work" / "count").read_text() == "run\n"


async def test_complete_removes_the_workspace_and_the_ticket_is_not_run_again(bench: Bench) -> None:
    await start(bench, "exit 3")
    for _ in range(2):
        assert await bench.call(SERVICE, "CompleteScript", CompleteScriptCommandV2(ScriptTicket("t"))) is None
    assert await bench.left() == []
    assert (await status(bench)).exit_code == -45
    again = await start(bench, "touch ../ran; exit 8")
    assert (again.state, again.exit_code, len(again.logs)) == (ProcessState.COMPLETE, 3, 1)
    assert await bench.left() == []


@pytest.mark.parametrize("ticket", ["nowhere", "", "..", "../../x", "/etc", "a\0b", "x" * 70_000, ".spool"])
async def test_an_unknown_ticket(bench: Bench, ticket: str) -> None:
    wanted = ScriptStatusResponseV2(ScriptTicket(ticket), (), 5, ProcessState.COMPLETE, -45)
    assert await status(bench, ticket, 5) == wanted
    assert await bench.call(SERVICE, "CancelScript", CancelScriptCommandV2(ScriptTicket(ticket), 5)) == wanted
    assert await bench.call(SERVICE, "CompleteScript", CompleteScriptCommandV2(ScriptTicket(ticket))) is None
    assert (await status(bench, ticket, -9)).next_log_sequence == 0
    assert await bench.left() == []


@pytest.mark.parametrize(
    "ticket", ["", ".", "..", "../x", "/tmp/x", "a/b", "a\\b", "a\nb", "a\0b", "x" * 300, ".spool"]
)
async def test_a_ticket_that_cannot_name_a_workspace_is_refused_before_anything_is_written(
    bench: Bench, ticket: str
) -> None:
    before = sorted(bench.home.parent.rglob("*"))
    command = StartScriptCommandV2(ScriptTicket(ticket), "touch /tmp/never")
    assert "cannot name a workspace" in await bench.refused(SERVICE, "StartScript", command)
    assert sorted(bench.home.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "a/../../x", "", ".", "Bootstrap.sh", "Output.log", "a\0b", "y" * 300]
)
async def test_a_file_that_would_leave_the_workspace_is_refused(bench: Bench, name: str) -> None:
    stream, files = bench.arrived(b"x")
    command = StartScriptCommandV2(ScriptTicket("T"), "true", files=(ScriptFile(name, stream),))
    assert "cannot be used in a workspace" in await bench.refused(SERVICE, "StartScript", command, files=files)
    assert await bench.left() == []
    assert (await status(bench)).exit_code == -45


async def test_files_come_with_the_script(bench: Bench) -> None:
    plain, files = bench.arrived(b"plain data")
    secret, more = bench.arrived(b"hidden data")
    wanted = (ScriptFile("sub/plain.txt", plain), ScriptFile("secret.txt", secret, ""))
    answer = await start_with(bench, "cat sub/plain.txt; echo; head -c 4 secret.txt", wanted, {**files, **more})
    assert said(answer)[6:8] == ["plain data", "IV__"]


@HALIBUT_ALONE
async def test_a_file_whose_bytes_were_not_kept_fails_the_start_and_may_be_sent_again(bench: Bench) -> None:
    stream, files = bench.arrived(b"data")
    command = StartScriptCommandV2(ScriptTicket("T"), "cat f", files=(ScriptFile("f", stream),))
    message = await bench.refused(SERVICE, "StartScript", command)
    assert message == (
        "There was no room on the disk for the 4 bytes of the script's file 'f' when they arrived; "
        "please free up space."
    )
    answer = await start_with(bench, "cat f", (ScriptFile("f", stream),), files)
    assert "data" in said(answer)


@HALIBUT_ALONE
async def test_one_stream_for_two_files_is_a_failure_that_leaves_nothing(bench: Bench) -> None:
    stream, files = bench.arrived(b"data")
    twice = (ScriptFile("a", stream), ScriptFile("b", stream))
    command = StartScriptCommandV2(ScriptTicket("T"), "cat a b", files=twice)
    assert "could not be prepared" in await bench.refused(SERVICE, "StartScript", command, files=files)
    assert await bench.left() == []


async def start_with(bench: Bench, body: str, wanted: tuple[ScriptFile, ...], files: Any) -> ScriptStatusResponseV2:
    command = StartScriptCommandV2(ScriptTicket("T"), body, duration_to_wait_for_script_to_finish=WAIT, files=wanted)
    answer: ScriptStatusResponseV2 = await bench.call(SERVICE, "StartScript", command, files=files)
    return answer


async def test_an_engine_that_cannot_answers_with_an_error_and_works_again_later(bench: Bench) -> None:
    work = bench.home / "Work"
    shutil.rmtree(work)
    work.symlink_to("nowhere")
    command = StartScriptCommandV2(ScriptTicket("T"), "true")
    assert "The directory for workspaces cannot be made" in await bench.refused(SERVICE, "StartScript", command)
    work.unlink()
    assert (await start(bench, "exit 2")).exit_code == 2


async def test_what_lies_in_place_of_the_work_directory_is_moved_away_for_a_script(bench: Bench) -> None:
    work = bench.home / "Work"
    shutil.rmtree(work)
    work.write_text("in the way")
    assert (await start(bench, "exit 2")).exit_code == 2


async def test_while_the_agent_drains_a_running_script_is_still_looked_after(bench: Bench) -> None:
    await start(bench, "sleep 60", wait=None)
    await bench.engine.drain(ShuttingDown(), 0)
    assert (await start(bench, "", wait=None)).state is not ProcessState.COMPLETE
    await bench.call(SERVICE, "CancelScript", CancelScriptCommandV2(ScriptTicket("T"), 0))
    assert (await start(bench, "")).exit_code == -1
