"""A part that fails is told about and started again."""

from __future__ import annotations

import asyncio

import pytest

from tentacle.agent.supervisor import keep_running


class Part:
    """Fails as often as it is told to, and then ends; `clock` moves while it runs."""

    def __init__(self, failures: int, seconds: float = 0) -> None:
        self.failures = failures
        self.runs = 0
        self.now = 0.0
        self._seconds = seconds

    async def __call__(self) -> None:
        self.runs += 1
        self.now += self._seconds
        if self.runs <= self.failures:
            raise ExceptionGroup("several", [ValueError("broken\nagain")])

    def clock(self) -> float:
        return self.now


def pauses(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage().rpartition("Starting it again in ")[2] for r in caplog.records]


async def no_sleep(_seconds: float) -> None:
    return


async def test_it_is_started_again_until_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    part = Part(8)
    await keep_running("Polling", part, clock=part.clock, sleep=no_sleep)
    assert part.runs == 9
    assert caplog.records[0].getMessage() == "Polling failed: broken again. Starting it again in 1 seconds"
    assert pauses(caplog) == [f"{n} seconds" for n in (1, 2, 4, 8, 16, 32, 60, 60)]


async def test_a_part_that_had_recovered_does_not_pay_for_its_past(caplog: pytest.LogCaptureFixture) -> None:
    part = Part(4, seconds=3600)
    await keep_running("Polling", part, clock=part.clock, sleep=no_sleep)
    assert pauses(caplog) == ["1 seconds"] * 4


async def test_it_can_be_cancelled() -> None:
    task = asyncio.create_task(keep_running("Waiting", asyncio.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
