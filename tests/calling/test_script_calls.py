"""The two script services: what each is told, what is made again, and what may have arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tentacle.calling.caller import WorkerCallFailed
from tentacle.calling.client import OLD_CAPABILITIES
from tentacle.calling.retry import RetryPolicy
from tentacle.calling.script_run import CANCEL_DURATION, MUTEX, ScriptCallsV1, ScriptCallsV2, ScriptOrder, ScriptStatus
from tentacle.contracts.script import ProcessOutput, ProcessState, ScriptIsolationLevel, ScriptTicket
from tentacle.contracts.timespan import MAX_INT32_MILLISECONDS
from tests.calling.bench import BROKEN, ORDER, URI, Bench
from tests.patience import PATIENCE


async def test_v1_looks_twice_at_the_end_and_shows_each_line_once(bench: Bench) -> None:
    bench.worker.capabilities = None
    outcome = await bench.client().run_script(ORDER, bench.observe, bench.cancel)
    assert outcome.exit_code == 3
    assert bench.worker.calls[-3:] == ["GetStatus", "GetStatus", "CompleteScript"]
    assert bench.lines.count("one") == bench.lines.count("two") == 1
    assert bench.said[-1] == "Using ScriptServiceV1"
    assert await bench.client().capabilities() == OLD_CAPABILITIES


async def test_v1_is_never_started_twice(bench: Bench) -> None:
    bench.worker.capabilities = None
    await bench.client().capabilities()
    bench.worker.fail_next.append(BROKEN)
    with pytest.raises(WorkerCallFailed):
        await bench.client().run_script(ORDER, bench.observe, bench.cancel)
    assert bench.worker.calls.count("StartScript") == 1


async def test_a_failed_completion_does_not_matter_to_v2(bench: Bench) -> None:
    await bench.client().capabilities()
    calls = bench.worker.calls

    async def observe(outputs: Sequence[ProcessOutput]) -> None:
        await bench.observe(outputs)
        if calls[-1] == "StartScript":
            bench.worker.fail_next.append(BROKEN)

    outcome = await bench.client().run_script(ORDER, observe, bench.cancel)
    assert outcome.exit_code == 3
    assert "Failed to cleanup the script working directory on Tentacle" in bench.said[-1]


async def test_a_start_that_never_connected_is_not_cancelled_at_the_worker(bench: Bench) -> None:
    await bench.client().capabilities()
    del bench.comms.workers[URI]

    async def report(line: str) -> None:
        if "Retry attempt 1" in line:
            bench.cancel.set()

    bench.report = report  # type: ignore[method-assign]
    outcome = await bench.client().run_script(ORDER, bench.observe, bench.cancel)
    assert outcome.cancelled
    assert bench.worker.calls == ["GetCapabilities"]


TICKET = ScriptTicket("ticket")
FULL = ScriptOrder("echo", "ServerTasks-7", ScriptIsolationLevel.FULL_ISOLATION, ("a", "b c"), timedelta(seconds=2))


def v2(bench: Bench, policy: RetryPolicy | None = None) -> ScriptCallsV2:
    return ScriptCallsV2(bench.calls(), bench.retries(policy or RetryPolicy()))


async def test_v2_is_told_everything_and_by_which_ticket(bench: Bench) -> None:
    await v2(bench).start(FULL, TICKET, bench.cancel)
    (command,) = bench.worker.given
    assert (command.script_ticket, command.script_body, command.task_id) == (TICKET, "echo", "ServerTasks-7")
    assert (command.isolation, command.arguments) == (ScriptIsolationLevel.FULL_ISOLATION, ("a", "b c"))
    assert command.duration_to_wait_for_script_to_finish == timedelta(seconds=2)
    assert (command.isolation_mutex_name, command.script_isolation_mutex_timeout) == (MUTEX, MAX_INT32_MILLISECONDS)


async def test_v1_is_told_the_same_and_gives_the_ticket(bench: Bench) -> None:
    calls = ScriptCallsV1(bench.calls())
    status = await calls.start(FULL, TICKET, bench.cancel)
    command = bench.worker.given[0]
    assert (command.script_body, command.task_id, command.arguments) == ("echo", "ServerTasks-7", ("a", "b c"))
    assert command.isolation is ScriptIsolationLevel.FULL_ISOLATION
    assert (command.isolation_mutex_name, command.script_isolation_mutex_timeout) == (MUTEX, MAX_INT32_MILLISECONDS)
    assert status == ScriptStatus(next(map(ScriptTicket, bench.worker.scripts)), (), 0, ProcessState.PENDING, 0)
    assert status.ticket != TICKET


async def test_both_go_on_where_the_last_status_ended(bench: Bench) -> None:
    for calls in (v2(bench), ScriptCallsV1(bench.calls())):
        status = await calls.start(ScriptOrder("echo one; exit 3", "t"), TICKET, bench.cancel)
        seen = list(status.logs)
        while not status.complete:
            await asyncio.sleep(0.01)
            status = await calls.status(status)
            seen += status.logs
        assert status.exit_code == 3
        assert [line.text for line in seen].count("one") == 1
        assert (await calls.status(status)).logs in ((), []), "nothing is told twice"


async def test_a_start_that_is_cancelled_on_its_way_may_have_arrived(bench: Bench) -> None:
    bench.comms.silent.add(URI)
    starting = asyncio.ensure_future(v2(bench).start(ORDER, TICKET, bench.cancel))
    await asyncio.wait_for(bench.comms.called.wait(), PATIENCE)
    bench.cancel.set()
    status = await asyncio.wait_for(starting, PATIENCE)
    assert status == ScriptStatus(TICKET, (), 0, ProcessState.PENDING, 0)


async def test_once_arrived_it_may_have_arrived_whatever_follows(bench: Bench) -> None:
    """The first attempt broke after it was connected; later ones reach nobody."""

    async def report(line: str) -> None:
        if "Retry attempt 1." in line:
            del bench.comms.workers[URI]
        if "Retry attempt 2." in line:
            bench.cancel.set()

    worker = bench.worker
    worker.fail_next.append(BROKEN)
    calls = ScriptCallsV2(bench.calls(), replace(bench.retries(RetryPolicy()), report=report))
    assert (await calls.start(ORDER, TICKET, bench.cancel)).state is ProcessState.PENDING
    assert worker.calls == ["StartScript"]


@pytest.mark.parametrize(("duration", "longest"), [(150.0, CANCEL_DURATION), (10.0, 10.0)])
async def test_a_cancellation_is_repeated_for_a_shorter_time(bench: Bench, duration: float, longest: float) -> None:
    del bench.comms.workers[URI]
    last = ScriptStatus(TICKET, (), 0, ProcessState.RUNNING, 0)
    with pytest.raises(WorkerCallFailed, match="Nobody answers"):
        await v2(bench, RetryPolicy(duration=duration)).cancel(last)
    assert longest / 2 < bench.clock.now <= longest


async def test_a_completion_is_made_once(bench: Bench) -> None:
    last = ScriptStatus(TICKET, (), 0, ProcessState.COMPLETE, 3)
    bench.worker.fail_next.append(BROKEN)
    assert await v2(bench).complete(last) is last
    assert bench.worker.calls == ["CompleteScript"]
    assert bench.said == [f"Failed to cleanup the script working directory on Tentacle: {BROKEN.message}"]


def test_an_order_shows_neither_its_script_nor_its_arguments() -> None:
    assert "hush" not in repr(ScriptOrder("hush", "t", arguments=("hush",)))
