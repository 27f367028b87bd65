"""Which scripts may run beside each other: one reader/writer lock per mutex name (tentacle-services.md 3.13).

Full isolation writes, no isolation reads.  Whoever asked first is served first: a waiting writer holds back the
readers behind it.  Who waits is told whom for, after a moment and then from time to time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

DEFAULT_MUTEX = "RunningScript"

_EXCLUSIVE = "requires that no other Octopus scripts are executing on this target at the same time."

Say = Callable[[Sequence[str]], None]
"""Puts lines into the log of the script that waits."""


@dataclass(frozen=True)
class Isolation:
    """What a run asks for.  Mutex names differ by case; `task` names the run to others."""

    mutex: str
    exclusive: bool
    task: str


class WaitCancelledError(Exception):
    """The wait for the lock was cancelled; the log says so already."""


class WaitTimedOutError(Exception):
    """The wait for the lock took too long; the log says so already."""


class Lease:
    """A held lock.  Give it back with `release`, once or more often."""

    def __init__(self, mutexes: Mutexes, isolation: Isolation) -> None:
        self._mutexes = mutexes
        self._isolation: Isolation | None = isolation

    def release(self) -> None:
        isolation, self._isolation = self._isolation, None
        if isolation is not None:
            self._mutexes._release(isolation)


class _Mutex:
    """Holders and queue of one name."""

    def __init__(self) -> None:
        self.writer: str | None = None
        self.writers = 0
        self.readers: Counter[str] = Counter()
        self.queue: deque[tuple[Isolation, asyncio.Future[None]]] = deque()

    @property
    def idle(self) -> bool:
        return not (self.writers or self.readers or self.queue)

    def free_for(self, isolation: Isolation) -> bool:
        return not self.writers and not (isolation.exclusive and self.readers)

    def take(self, isolation: Isolation) -> None:
        if isolation.exclusive:
            self.writer, self.writers = isolation.task, self.writers + 1
        else:
            self.readers[isolation.task] += 1

    def give_back(self, isolation: Isolation) -> None:
        if isolation.exclusive:
            self.writers -= 1
        else:
            self.readers -= Counter((isolation.task,))
        self.serve()

    def serve(self) -> None:
        """Lets in whoever stands at the head of the queue, as long as that is possible."""
        while self.queue and (self.queue[0][1].done() or self.free_for(self.queue[0][0])):
            isolation, turn = self.queue.popleft()
            if not turn.done():
                self.take(isolation)
                turn.set_result(None)

    def holders(self, own_task: str) -> tuple[str, bool, bool]:
        """Who holds the lock, in words; whether that is several tasks; whether the own task is among them."""
        if self.writers and self.writer is not None:
            return _link(self.writer), False, self.writer == own_task
        tasks = sorted(self.readers)
        names = ["This Task" if task == own_task else _link(task) for task in tasks]
        return _join(names) or "(error - task not found)", len(tasks) > 1, own_task in tasks


class Mutexes:
    """All locks of an agent.  `busy_after` and `busy_every` are seconds."""

    def __init__(self, busy_after: float = 0.1, busy_every: float = 600.0) -> None:
        self._busy_after = busy_after
        self._busy_every = busy_every
        self._mutexes: dict[str, _Mutex] = {}

    def hold(self, isolation: Isolation) -> Lease:
        """Takes the lock without asking: for a script that was let in before this agent was started."""
        self._mutex(isolation).take(isolation)
        return Lease(self, isolation)

    async def enter(self, isolation: Isolation, *, timeout: float | None, cancelled: asyncio.Event, say: Say) -> Lease:
        """Waits for the lock and gives it.  `timeout` is in seconds; `None` waits for ever.

        Raises `WaitCancelledError` when `cancelled` is set first, `WaitTimedOutError` when the time is up.  Both
        have told the log before.
        """
        mutex = self._mutex(isolation)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mutex.queue.append((isolation, turn))
        if cancelled.is_set():
            turn.cancel()
        mutex.serve()
        lease: Lease | None = None
        try:
            await self._wait(mutex, isolation, turn, timeout, cancelled, say)
            lease = Lease(self, isolation)
        finally:
            if lease is None:
                self._leave(mutex, isolation, turn)
        return lease

    async def _wait(
        self,
        mutex: _Mutex,
        isolation: Isolation,
        turn: asyncio.Future[None],
        timeout: float | None,
        cancelled: asyncio.Event,
        say: Say,
    ) -> None:
        loop = asyncio.get_running_loop()
        give_up = None if timeout is None else loop.time() + timeout
        pause = self._busy_after
        while not turn.done():
            left = None if give_up is None else give_up - loop.time()
            if cancelled.is_set() or (left is not None and left <= 0):
                break
            await _first(turn, cancelled, pause if left is None else min(pause, left))
            if not turn.done():
                say(("##octopus[stdout-wait]", _busy(mutex, isolation), "##octopus[stdout-default]"))
            pause = self._busy_every
        if turn.done() and not turn.cancelled():
            return
        if cancelled.is_set():
            say((_still_running("This task was canceled before it could start.", mutex, isolation),))
            raise WaitCancelledError
        say(
            (
                _still_running(
                    f"This task waited more than {_minutes(timeout)} minutes and timed out.", mutex, isolation
                ),
            )
        )
        raise WaitTimedOutError

    def _mutex(self, isolation: Isolation) -> _Mutex:
        return self._mutexes.setdefault(isolation.mutex, _Mutex())

    def _leave(self, mutex: _Mutex, isolation: Isolation, turn: asyncio.Future[None]) -> None:
        """Out of the queue, or out of the lock when it was given in the very moment of leaving."""
        if turn.done() and not turn.cancelled():
            self._release(isolation)
            return
        turn.cancel()
        mutex.serve()
        self._forget(isolation)

    def _release(self, isolation: Isolation) -> None:
        self._mutexes[isolation.mutex].give_back(isolation)
        self._forget(isolation)

    def _forget(self, isolation: Isolation) -> None:
        if self._mutex(isolation).idle:
            del self._mutexes[isolation.mutex]


async def _first(turn: asyncio.Future[None], cancelled: asyncio.Event, seconds: float) -> None:
    """Returns when the turn has come, the cancel has come or the time is up."""
    cancel = asyncio.ensure_future(cancelled.wait())
    either: set[asyncio.Future[Any]] = {turn, cancel}
    try:
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        cancel.cancel()


def _link(task: str) -> str:
    return f"[{task}](~/app#/tasks/{task})"


def _join(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _busy(mutex: _Mutex, isolation: Isolation) -> str:
    holders, several, own = mutex.holders(isolation.task)
    if several:
        return f"Waiting on scripts in tasks {holders} to finish. This script {_EXCLUSIVE}"
    if own:
        which = "this" if isolation.exclusive else "another"
        return f"Waiting on another script in this task to finish as {which} task {_EXCLUSIVE}"
    which = "this" if isolation.exclusive else "that"
    return f"Waiting for the script in task {holders} to finish as {which} script {_EXCLUSIVE}"


def _still_running(what: str, mutex: _Mutex, isolation: Isolation) -> str:
    holders, several, _ = mutex.holders(isolation.task)
    return f"{what} {f'Tasks {holders} are' if several else f'Task {holders} is'} still running."


def _minutes(seconds: float | None) -> str:
    return f"{(Decimal(seconds or 0) / 60).quantize(Decimal(1), ROUND_HALF_UP):,}"
