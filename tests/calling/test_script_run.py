"""One script from its start to its completion: the order of the calls, and how it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tentacle.calling.caller import WorkerCallFailed
from tentacle.calling.retry import RetryPolicy, Time
from tentacle.calling.script_run import ScriptOrder, ScriptProgress, ScriptRun, ScriptStatus
from tentacle.contracts.script import ProcessOutput, ProcessState, ScriptTicket
from tests.calling.bench import BROKEN, ORDER, QUICK, Bench
from tests.patience import PATIENCE


@pytest.mark.parametrize("old", [False, True])
async def test_cancelling_is_repeated_until_the_script_has_ended(bench: Bench, old: bool) -> None:
    if old:
        bench.worker.capabilities = None
    running = asyncio.create_task(
        bench.client().run_script(ScriptOrder("sleep 1000", "t"), bench.observe, bench.cancel)
    )
    await asyncio.wait_for(bench.worker.started.wait(), PATIENCE)
    bench.cancel.set()
    outcome = await asyncio.wait_for(running, PATIENCE)
    assert outcome.cancelled
    assert "CancelScript" in bench.worker.calls
    assert bench.worker.calls[-1] == "CompleteScript"
    (script,) = bench.worker.scripts.values()
    assert script.process.returncode == -9


@pytest.mark.parametrize("old", [False, True])
async def test_every_line_is_observed_once_and_in_order(bench: Bench, old: bool) -> None:
    if old:
        bench.worker.capabilities = None
    script = ScriptOrder("for i in {1..30}; do echo line $i; sleep 0.02; done", "t", wait=timedelta(0))
    outcome = await bench.client().run_script(script, bench.observe, bench.cancel)
    assert (outcome.exit_code, outcome.cancelled) == (0, False)
    assert [line for line in bench.lines if line.startswith("line")] == [f"line {i}" for i in range(1, 31)]
    looks = bench.worker.calls.count("GetStatus")
    assert looks > 2
    # Version 1 looks once more at the end, without a pause.
    assert bench.clock.slept == [QUICK[0].before(number) for number in range(1, looks + 1 - old)]


async def test_a_script_that_cannot_be_asked_any_more_is_cancelled_before_it_is_given_up(bench: Bench) -> None:
    """Else it would run on, and nobody would know of it."""
    await bench.client().capabilities()

    async def observe(_: Sequence[ProcessOutput]) -> None:
        if bench.worker.calls[-1] == "StartScript":
            bench.worker.fail_next.append(BROKEN)

    client = bench.client(policy=RetryPolicy(enabled=False))
    with pytest.raises(WorkerCallFailed, match="The connection broke"):
        await client.run_script(ScriptOrder("sleep 1000", "t"), observe, bench.cancel)
    assert bench.worker.calls[-2:] == ["GetStatus", "CancelScript"]
    (script,) = bench.worker.scripts.values()
    assert script.cancelled


async def test_a_script_that_cannot_be_cancelled_either_is_given_up_for_the_first_failure(bench: Bench) -> None:
    await bench.client().capabilities()

    async def observe(_: Sequence[ProcessOutput]) -> None:
        bench.worker.fail_next += [BROKEN, WorkerCallFailed("Not even that", connected=True)]

    client = bench.client(policy=RetryPolicy(enabled=False))
    with pytest.raises(WorkerCallFailed, match="The connection broke"):
        await client.run_script(ScriptOrder("sleep 1000", "t"), observe, bench.cancel)
    assert bench.worker.calls[-1] == "CancelScript"


async def test_cancellations_are_repeated_with_pauses_between_them(bench: Bench) -> None:
    """By a worker whose script takes its time to end."""
    states = iter([ProcessState.RUNNING, ProcessState.RUNNING, ProcessState.COMPLETE])
    made: list[str] = []

    class Slow:
        async def start(self, _: ScriptOrder, ticket: ScriptTicket, __: asyncio.Event) -> ScriptStatus:
            return ScriptStatus(ticket, (), 0, ProcessState.PENDING, 0)

        async def status(self, last: ScriptStatus) -> ScriptStatus:
            raise AssertionError("a run that is cancelled is not asked")

        async def cancel(self, last: ScriptStatus) -> ScriptStatus:
            made.append("cancel")
            return replace(last, state=next(states), exit_code=-43)

        async def complete(self, last: ScriptStatus) -> ScriptStatus:
            made.append("complete")
            return last

    bench.cancel.set()
    time = Time(lambda: bench.clock.now, bench.clock.sleep)
    run = ScriptRun(Slow(), QUICK[0], time, bench.observe, bench.cancel)
    outcome = await run.run(ORDER, ScriptProgress(ScriptTicket("t"), again=False))
    assert (outcome.exit_code, outcome.cancelled) == (-43, True)
    assert made == ["cancel", "cancel", "cancel", "complete"]
    assert bench.clock.slept == [QUICK[0].before(1), QUICK[0].before(2)], "the first goes out at once"
