"""The budget for long messages: who may have more, who waits, and who is given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tentacle.transport.memory import Memory, MemoryShare
from tests.patience import PATIENCE

NEVER = 3600.0


class Connection:
    """A connection that is reading or writing, unless its peer is waited for."""

    def __init__(self) -> None:
        self.waiting_since: float | None = None
        self.given_up = 0

    def give_up(self) -> None:
        self.given_up += 1

    def waits(self, seconds: float = 0) -> Connection:
        """Its peer has been waited for, for so many seconds."""
        self.waiting_since = asyncio.get_running_loop().time() - seconds
        return self


@asynccontextmanager
async def growing(share: MemoryShare, size: int) -> AsyncIterator[asyncio.Task[None]]:
    """The share asks for so much and, if it has to, waits."""
    task = asyncio.create_task(share.grow(size))
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(PATIENCE):
            yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def shares(memory: Memory, *peers: str) -> list[MemoryShare]:
    return [memory.share(peer, Connection()) for peer in peers]


async def test_what_fits_is_taken_at_once_and_comes_back() -> None:
    memory = Memory(100)
    one, other = shares(memory, "A", "B")
    await one.grow(40)
    await one.grow(50)
    await other.grow(50)
    assert memory.held == 100
    one.release()
    one.release()
    other.release()
    assert memory.held == 0


async def test_a_message_waits_for_another_to_end() -> None:
    memory = Memory(100)
    one, other = shares(memory, "A", "B")
    await one.grow(60)
    async with growing(other, 60) as task:
        assert not task.done()
        one.release()
        await task
        assert memory.held == other.held == 60


async def test_one_message_of_more_than_the_budget_at_a_time_while_they_are_answered() -> None:
    memory = Memory(100, NEVER)
    small, huge, other = shares(memory, "A", "B", "C")
    await small.grow(70)
    small.settle()
    await huge.grow(150)
    huge.settle()
    async with growing(other, 150) as task:
        small.release()
        await asyncio.sleep(0)
        assert not task.done()
        huge.release()
        await task
        assert memory.held == other.held == 150


async def test_a_huge_message_that_is_being_answered_keeps_others_waiting_no_longer_than_the_budget_does() -> None:
    memory = Memory(100, NEVER)
    huge, same_peer, other, one_more = shares(memory, "A", "A", "B", "C")
    await huge.grow(10)
    await huge.grow(500)
    huge.settle()
    await same_peer.grow(70)
    await other.grow(30)
    async with growing(one_more, 10) as task:
        assert not task.done(), "of the others, all together have the budget"
        other.release()
        await task
    assert memory.held == 580


async def test_a_huge_message_that_is_being_answered_costs_no_slow_reader_its_connection() -> None:
    memory = Memory(100, NEVER)
    huge = memory.share("A", Connection())
    await huge.grow(500)
    huge.settle()
    slow = Connection().waits(1)
    memory.share("B", slow).take(60)
    memory.share("C", Connection().waits()).take(30)
    assert slow.given_up == 0
    memory.share("D", Connection().waits()).take(30)
    assert slow.given_up == 1


async def test_of_two_half_read_messages_that_need_more_the_older_goes_on() -> None:
    memory = Memory(100, NEVER)
    one, other = shares(memory, "A", "B")
    await other.grow(50)
    await one.grow(50)
    async with growing(one, 80) as younger, growing(other, 80) as older:
        await older
        assert not younger.done()
        other.release()
        await younger
        assert memory.held == 80


async def test_a_message_of_more_than_the_budget_goes_on_when_it_is_the_oldest() -> None:
    memory = Memory(100, NEVER)
    one, other = shares(memory, "A", "B")
    await one.grow(10)
    async with growing(other, 500) as task:
        assert not task.done()
        one.release()
        await task
        assert memory.held == 500
    other.release()
    assert memory.held == 0


async def test_a_message_that_is_complete_keeps_nobody_else_from_going_on() -> None:
    """It may be answered for an hour, or its files may come for so long."""
    memory = Memory(100, NEVER)
    first, second, third = shares(memory, "A", "B", "C")
    await first.grow(50)
    await second.grow(30)
    await third.grow(20)
    async with growing(third, 60) as younger, growing(second, 60) as older:
        assert not older.done()
        first.settle()
        await older
        assert not younger.done()
        second.release()
        await younger


async def test_no_peer_spends_everything() -> None:
    memory = Memory(100, NEVER)
    one, two, other = shares(memory, "A", "A", "B")
    await one.grow(60)
    async with growing(two, 20) as task:
        assert not task.done()
        await other.grow(25)
        one.release()
        await task


async def test_one_that_stops_waiting_leaves_nothing_behind() -> None:
    memory = Memory(100, NEVER)
    one, two, three = shares(memory, "A", "B", "C")
    await one.grow(90)
    async with growing(two, 50) as task:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    two.release()
    one.release()
    await three.grow(1000)
    assert memory.held == 1000


async def test_a_peer_that_others_wait_for_is_given_up_after_a_while() -> None:
    memory = Memory(100, slow=10)
    slow, busy, quick = (memory.share(name, Connection()) for name in "ABC")
    slower = memory.share("D", Connection().waits(20))
    assert isinstance(slow.holder, Connection)
    slow.holder.waits(15)
    quick.holder.waiting_since = asyncio.get_running_loop().time()
    for share in (quick, busy, slow, slower):
        await share.grow(25)
    waiting = memory.share("E", Connection())
    async with growing(waiting, 25) as task:
        await task
    given_up = [getattr(share.holder, "given_up", None) for share in (quick, busy, slow, slower)]
    assert given_up == [0, 0, 0, 1]
    assert memory.held == 100
    slower.release()
    assert memory.held == 100


async def test_nobody_is_given_up_while_nobody_waits() -> None:
    memory = Memory(100, slow=0.0)
    share = memory.share("A", Connection().waits(NEVER))
    await share.grow(100)
    assert isinstance(share.holder, Connection)
    assert share.holder.given_up == 0


async def test_what_is_there_already_is_taken_and_slow_peers_go_until_it_fits() -> None:
    memory = Memory(100)
    held = [memory.share("A", Connection().waits(age)) for age in (3, 2, 1)]
    for share in held:
        share.take(30)
    busy = memory.share("B", Connection())
    busy.take(50)
    given_up = [getattr(share.holder, "given_up", None) for share in held]
    assert given_up == [1, 1, 0]
    assert memory.held == 80
    other = memory.share("C", Connection())
    other.take(90)
    assert memory.held == 140, "nobody is left who could be given up"
