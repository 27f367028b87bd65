"""Readers, writers, queue and messages of the isolation lock (docs/spec/services.md, "Isolation mutex")."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tentacle.scripts.mutexes import Lease, Mutexes, MutexRequest, WaitCancelledError, WaitTimedOutError
from tests.patience import PATIENCE

EXCLUSIVE = "requires that no other Octopus scripts are executing on this target at the same time."


def reader(task: str, mutex: str = "M") -> MutexRequest:
    return MutexRequest(mutex, False, task)


def writer(task: str, mutex: str = "M") -> MutexRequest:
    return MutexRequest(mutex, True, task)


class Waiter:
    """Somebody who asks for the lock, and what was said meanwhile."""

    def __init__(self, mutexes: Mutexes, isolation: MutexRequest, timeout: float | None = None) -> None:
        self.said: list[str] = []
        self.cancelled = asyncio.Event()
        entering = mutexes.acquire(isolation, timeout=timeout, cancelled=self.cancelled, say=self._say)
        self.task = asyncio.create_task(entering)

    def _say(self, lines: Sequence[str]) -> None:
        self.said += lines

    async def lease(self) -> Lease:
        return await asyncio.wait_for(self.task, PATIENCE)

    async def has_entered(self) -> bool:
        for _ in range(5):
            await asyncio.sleep(0)
        return self.task.done()

    async def has_said(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.said) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@pytest.fixture
def mutexes() -> Mutexes:
    return Mutexes(busy_after=0.01, busy_every=600)


async def test_readers_share_and_writers_do_not(mutexes: Mutexes, no_stray_tasks: Any) -> None:
    first, second = await Waiter(mutexes, reader("A")).lease(), await Waiter(mutexes, reader("B")).lease()
    third = Waiter(mutexes, writer("C"))
    assert not await third.has_entered()
    first.release()
    assert not await third.has_entered()
    second.release()
    (await third.lease()).release()
    assert mutexes._mutexes == {}


async def test_a_waiting_writer_holds_back_later_readers(mutexes: Mutexes) -> None:
    first = await Waiter(mutexes, reader("A")).lease()
    second, third, fourth = (Waiter(mutexes, wish) for wish in (writer("B"), reader("C"), reader("D")))
    assert not await third.has_entered()
    first.release()
    lease = await second.lease()
    assert not await third.has_entered()
    lease.release()
    for waiter in (third, fourth):
        (await waiter.lease()).release()


async def test_a_writer_that_gives_up_lets_the_readers_behind_it_in(mutexes: Mutexes) -> None:
    first = await Waiter(mutexes, reader("A")).lease()
    second, third = Waiter(mutexes, writer("B")), Waiter(mutexes, reader("C"))
    assert not await third.has_entered()
    second.cancelled.set()
    with pytest.raises(WaitCancelledError):
        await second.lease()
    for lease in (first, await third.lease()):
        lease.release()


async def test_names_are_independent_and_differ_by_case(mutexes: Mutexes) -> None:
    leases = [await Waiter(mutexes, writer("A", name)).lease() for name in ("M", "m", "N")]
    for lease in leases:
        lease.release()


async def test_releasing_twice_releases_once(mutexes: Mutexes) -> None:
    first, second = await Waiter(mutexes, reader("A")).lease(), await Waiter(mutexes, reader("A")).lease()
    first.release()
    first.release()
    waiting = Waiter(mutexes, writer("B"))
    assert not await waiting.has_entered()
    second.release()
    (await waiting.lease()).release()


async def test_what_runs_already_holds_its_lock_whatever_the_rules(mutexes: Mutexes) -> None:
    held = [mutexes.hold(writer("A")), mutexes.hold(reader("B"))]
    waiting = Waiter(mutexes, reader("C"))
    assert not await waiting.has_entered()
    for lease in held:
        lease.release()
    (await waiting.lease()).release()


async def test_a_waiter_that_is_torn_down_leaves_the_queue(mutexes: Mutexes) -> None:
    first = await Waiter(mutexes, writer("A")).lease()
    second = Waiter(mutexes, writer("B"))
    assert not await second.has_entered()
    second.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second.task
    first.release()
    assert mutexes._mutexes == {}


@pytest.mark.parametrize(
    ("holders", "wish", "message"),
    [
        (
            [writer("A")],
            writer("B"),
            f"Waiting for the script in task [A](~/app#/tasks/A) to finish as this script {EXCLUSIVE}",
        ),
        (
            [writer("A")],
            reader("B"),
            f"Waiting for the script in task [A](~/app#/tasks/A) to finish as that script {EXCLUSIVE}",
        ),
        (
            [reader("A")],
            writer("B"),
            f"Waiting for the script in task [A](~/app#/tasks/A) to finish as this script {EXCLUSIVE}",
        ),
        ([writer("A")], writer("A"), f"Waiting on another script in this task to finish as this task {EXCLUSIVE}"),
        ([writer("A")], reader("A"), f"Waiting on another script in this task to finish as another task {EXCLUSIVE}"),
        (
            [reader("C"), reader("A"), reader("B"), reader("A")],
            writer("D"),
            "Waiting on scripts in tasks [A](~/app#/tasks/A), [B](~/app#/tasks/B) and [C](~/app#/tasks/C) to finish. "
            f"This script {EXCLUSIVE}",
        ),
        (
            [reader("A"), reader("B")],
            writer("A"),
            f"Waiting on scripts in tasks This Task and [B](~/app#/tasks/B) to finish. This script {EXCLUSIVE}",
        ),
    ],
)
async def test_a_waiting_run_is_told_the_holders(
    mutexes: Mutexes, holders: list[MutexRequest], wish: MutexRequest, message: str
) -> None:
    leases = [mutexes.hold(holder) for holder in holders]
    waiting = Waiter(mutexes, wish)
    await waiting.has_said(3)
    assert waiting.said == ["##octopus[stdout-wait]", message, "##octopus[stdout-default]"]
    for lease in leases:
        lease.release()
    (await waiting.lease()).release()
    assert len(waiting.said) == 3


async def test_it_is_told_again_from_time_to_time() -> None:
    mutexes = Mutexes(busy_after=0.01, busy_every=0.02)
    lease = mutexes.hold(writer("A"))
    waiting = Waiter(mutexes, reader("B"))
    await waiting.has_said(9)
    lease.release()
    (await waiting.lease()).release()


async def test_a_cancel_is_told_after_one_more_block(mutexes: Mutexes) -> None:
    held = [mutexes.hold(reader("A")), mutexes.hold(reader("B"))]
    waiting = Waiter(mutexes, writer("C"))
    await waiting.has_said(3)
    waiting.cancelled.set()
    with pytest.raises(WaitCancelledError):
        await waiting.lease()
    assert waiting.said[3:] == [
        *waiting.said[:3],
        "This task was canceled before it could start. Tasks [A](~/app#/tasks/A) and [B](~/app#/tasks/B) are still "
        "running.",
    ]
    for lease in held:
        lease.release()


async def test_a_run_that_is_already_cancelled_is_told_only_that(mutexes: Mutexes) -> None:
    lease = mutexes.hold(writer("A"))
    waiting = Waiter(mutexes, writer("B"))
    waiting.cancelled.set()
    with pytest.raises(WaitCancelledError):
        await waiting.lease()
    assert waiting.said == [
        "This task was canceled before it could start. Task [A](~/app#/tasks/A) is still running.",
    ]
    lease.release()


@pytest.mark.parametrize(("timeout", "minutes"), [(0.02, "0")])
async def test_a_timeout_is_told_with_the_minutes(mutexes: Mutexes, timeout: float, minutes: str) -> None:
    lease = mutexes.hold(writer("A"))
    waiting = Waiter(mutexes, writer("B"), timeout)
    with pytest.raises(WaitTimedOutError):
        await waiting.lease()
    assert waiting.said[-1] == (
        f"This task waited more than {minutes} minutes and timed out. Task [A](~/app#/tasks/A) is still running."
    )
    # Once soon, and once more at the end, unless both are one on a busy machine.
    assert waiting.said.count("##octopus[stdout-wait]") in (1, 2)
    lease.release()
    assert mutexes._mutexes == {}


async def test_the_longest_timeout_of_dotnet_is_no_problem(mutexes: Mutexes) -> None:
    lease = mutexes.hold(writer("A"))
    waiting = Waiter(mutexes, writer("B"), 2**31 / 1000)
    await waiting.has_said(3)
    lease.release()
    (await waiting.lease()).release()
