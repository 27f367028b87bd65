"""What a client asks of its worker: which calls it sees, in which order, and what happens when one of them fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tentacle.calling.caller import WorkerCallFailed
from tentacle.calling.client import new_ticket
from tentacle.calling.retry import INVOCATION, RetryPolicy
from tests.calling.bench import BROKEN, ORDER, URI, Bench
from tests.patience import PATIENCE


async def test_v2_is_one_start_and_one_completion_for_a_quick_script(bench: Bench) -> None:
    outcome = await bench.client().run_script(ORDER, bench.observe, bench.cancel)
    assert (outcome.exit_code, outcome.cancelled) == (3, False)
    assert bench.worker.calls == ["GetCapabilities", "StartScript", "CompleteScript"]
    assert bench.lines[3:5] == ["one", "two"]
    assert bench.said == [
        "Determining ScriptService version to use",
        "Discovered Tentacle capabilities: IScriptService,IFileTransferService,IScriptServiceV2",
        "Using ScriptServiceV2",
    ]


async def test_capabilities_are_asked_once_in_ten_minutes(bench: Bench) -> None:
    for _ in range(3):
        await bench.client().capabilities()
    assert bench.worker.calls == ["GetCapabilities"]
    bench.clock.now += 601
    await bench.client().capabilities()
    await bench.client().capabilities(fresh=True)
    assert bench.worker.calls == ["GetCapabilities"] * 3


async def test_broken_calls_are_made_again_and_the_script_runs_once(bench: Bench) -> None:
    bench.worker.fail_next += [BROKEN, BROKEN]
    await bench.client().capabilities()
    bench.worker.fail_next += [BROKEN]
    outcome = await bench.client().run_script(ORDER, bench.observe, bench.cancel)
    assert outcome.exit_code == 3
    assert len(bench.worker.scripts) == 1
    assert bench.clock.slept[:3] == [1, 2, 1]
    assert any("Retry attempt 2. Retries will be performed for up to 150 seconds." in line for line in bench.said)
    assert any(f"{BROKEN.message}. The call will be retried" in line for line in bench.said)


async def test_retries_end_with_their_time(bench: Bench) -> None:
    del bench.comms.workers[URI]
    with pytest.raises(WorkerCallFailed, match="Nobody answers"):
        await bench.client(policy=RetryPolicy(True, 10.0)).capabilities()
    # 1 + 2 + 3 s have gone; after 4 s more there would be no time left to try.
    assert bench.clock.slept == [1, 2, 3]
    assert bench.said[-1] == "Could not communicate with Tentacle after 10 seconds."


@pytest.mark.parametrize(
    "failure",
    [
        WorkerCallFailed("No", f"{INVOCATION}\n at x", connected=True),
        WorkerCallFailed("m", "d", "Halibut.MethodNotFoundHalibutClientException"),
    ],
)
async def test_a_worker_that_said_no_is_not_asked_again(bench: Bench, failure: WorkerCallFailed) -> None:
    await bench.client().capabilities()
    bench.worker.fail_next.append(failure)
    with pytest.raises(WorkerCallFailed):
        await bench.client().run_script(ORDER, bench.observe, bench.cancel)
    assert bench.clock.slept == []


async def test_cancelling_before_anything_was_reached_asks_nobody(bench: Bench) -> None:
    bench.comms.silent.add(URI)
    running = asyncio.create_task(bench.client().run_script(ORDER, bench.observe, bench.cancel))
    await asyncio.wait_for(bench.comms.called.wait(), PATIENCE)
    bench.cancel.set()
    assert (await asyncio.wait_for(running, PATIENCE)).cancelled
    assert bench.worker.calls == []


async def test_files_are_sent_again_from_the_beginning(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"content")
    bench.worker.fail_next.append(BROKEN)
    result = await bench.client().upload("there", tmp_path / "local")
    assert result.length == 7
    assert (tmp_path / "there").read_bytes() == b"content"
    path = await bench.client().download("there")
    assert path is not None
    assert path.read_bytes() == b"content"
    path.unlink()
    assert await bench.client().download("nowhere") is None


def test_tickets_are_letters_and_digits() -> None:
    tickets = {new_ticket().task_id for _ in range(200)}
    assert len(tickets) == 200
    assert all(ticket.isalnum() and ticket.isascii() and 10 < len(ticket) <= 22 for ticket in tickets)
