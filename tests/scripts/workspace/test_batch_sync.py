"""Those who wait for the disk at the same time wait for it together."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tentacle.scripts.workspace.batch_sync import Settling
from tests.scripts.lab import until


async def test_who_comes_meanwhile_shares_the_next_look() -> None:
    settling = Settling()
    free, calls, looks = threading.Event(), [], []

    def first() -> None:
        calls.append("first")
        free.wait(30)

    def other() -> None:
        calls.append("other")
        looks.append(threading.get_ident())

    waiting = [asyncio.create_task(settling.settle(first))]
    await until(lambda: bool(calls))
    waiting += [asyncio.create_task(settling.settle(other)) for _ in range(5)]
    await asyncio.sleep(0)
    assert calls == ["first"]
    free.set()
    await asyncio.gather(*waiting)
    assert calls == ["first", *["other"] * 5]
    assert len(set(looks)) == 1
    await settling.settle(other)


async def test_a_failure_is_that_of_its_own_and_who_has_left_harms_nobody() -> None:
    settling = Settling()
    done = []

    def fails() -> None:
        raise OSError(5, "the disk")

    left = asyncio.create_task(settling.settle(lambda: done.append("left")))
    failing = asyncio.create_task(settling.settle(fails))
    fine = asyncio.create_task(settling.settle(lambda: done.append("fine")))
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(OSError, match="the disk"):
        await failing
    await fine
    assert done == ["left", "fine"]
    await asyncio.gather(left, return_exceptions=True)
