"""Which scripts may run at the same time: one reader/writer lock per mutex name (docs/spec/services.md,
"Isolation mutex").

A script with FullIsolation is a writer, one with NoIsolation a reader.  Requests are served in their order: a waiting
writer blocks the readers behind it.  The log of a waiting script names the holders, after a moment and then from time
to time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tentacle.records import dataclass

DEFAULT_MUTEX = "RunningScript"

_EXCLUSIVE = "requires that no other Octopus scripts are executing on this target at the same time."

Say = Callable[[Sequence[str]], None]
"""Puts lines into the log of the script that waits."""


@dataclass(frozen=True)
class MutexRequest:
    """The mutex that a run needs: its name (case counts) and whether it is exclusive.  `task` names the run."""

    mutex: str
    exclusive: bool
    task: str


class WaitCancelledError(Exception):
    """The wait for the mutex was cancelled; the log says so already."""


class WaitTimedOutError(Exception):
    """The wait for the mutex took too long; the log says so already."""


class Lease:
    """A held mutex.  `release` gives it back; repeating that does nothing."""

    def __init__(self, mutexes: Mutexes, request: MutexRequest) -> None:
        self._mutexes = mutexes
        self._request: MutexRequest | None = request

    def release(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            self._mutexes._release(request)


class _Mutex:
    """The holders and the queue of one mutex."""

    def __init__(self) -> None:
        self.writer: str | None = None
        self.writers = 0
        self.readers: Counter[str] = Counter()
        self.queue: deque[tuple[MutexRequest, asyncio.Future[None]]] = deque()

    @property
    def idle(self) -> bool:
        return not (self.writers or self.readers or self.queue)

    def free_for(self, request: MutexRequest) -> bool:
        return not self.writers and not (request.exclusive and self.readers)

    def take(self, request: MutexRequest) -> None:
        if request.exclusive:
            self.writer, self.writers = request.task, self.writers + 1
        else:
            self.readers[request.task] += 1

    def give_back(self, request: MutexRequest) -> None:
        if request.exclusive:
            self.writers -= 1
        else:
            self.readers -= Counter((request.task,))
        self.serve()

    def serve(self) -> None:
        """Grants the requests at the head of the queue, as long as the mutex is free for them."""
        while self.queue and (self.queue[0][1].done() or self.free_for(self.queue[0][0])):
            request, turn = self.queue.popleft()
            if not turn.done():
                self.take(request)
                turn.set_result(None)

    def holders(self, own_task: str) -> tuple[str, bool, bool]:
        """Returns the holders in words, whether they are several tasks, and whether `own_task` is one of them."""
        if self.writers and self.writer is not None:
            return _link(self.writer), False, self.writer == own_task
        tasks = sorted(self.readers)
        names = ["This Task" if task == own_task else _link(task) for task in tasks]
        joined = " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
        return joined or "(error - task not found)", len(tasks) > 1, own_task in tasks


class Mutexes:
    """All mutexes of an agent.  `busy_after` and `busy_every` are seconds."""

    def __init__(self, busy_after: float = 0.1, busy_every: float = 600.0) -> None:
        self._busy_after = busy_after
        self._busy_every = busy_every
        self._mutexes: dict[str, _Mutex] = {}

    def hold(self, request: MutexRequest) -> Lease:
        """Takes the mutex without waiting, for a script that an earlier agent has started."""
        self._mutex(request).take(request)
        return Lease(self, request)

    async def acquire(
        self, request: MutexRequest, *, timeout: float | None, cancelled: asyncio.Event, say: Say
    ) -> Lease:
        """Waits for the mutex; returns the lease.  `timeout` is in seconds; `None` waits for ever.

        Raises `WaitCancelledError` when `cancelled` is set first, `WaitTimedOutError` when the time is up.  The log has
        the reason by then.
        """
        mutex = self._mutex(request)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mutex.queue.append((request, turn))
        if cancelled.is_set():
            turn.cancel()
        mutex.serve()
        lease: Lease | None = None
        try:
            await self._wait(mutex, request, turn, timeout, cancelled, say)
            lease = Lease(self, request)
        finally:
            if lease is None and turn.done() and not turn.cancelled():
                # The mutex was given to this run in the same moment in which the wait ended.
                self._release(request)
            elif lease is None:
                turn.cancel()
                mutex.serve()
                self._forget(request)
        return lease

    async def _wait(
        self,
        mutex: _Mutex,
        request: MutexRequest,
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
            await _wait_for_either(turn, cancelled, pause if left is None else min(pause, left))
            if not turn.done():
                say(("##octopus[stdout-wait]", _busy(mutex, request), "##octopus[stdout-default]"))
            pause = self._busy_every
        if turn.done() and not turn.cancelled():
            return
        if cancelled.is_set():
            say((_still_running("This task was canceled before it could start.", mutex, request),))
            raise WaitCancelledError
        minutes = (Decimal(timeout or 0) / 60).quantize(Decimal(1), ROUND_HALF_UP)
        say((_still_running(f"This task waited more than {minutes:,} minutes and timed out.", mutex, request),))
        raise WaitTimedOutError

    def _mutex(self, request: MutexRequest) -> _Mutex:
        return self._mutexes.setdefault(request.mutex, _Mutex())

    def _release(self, request: MutexRequest) -> None:
        self._mutexes[request.mutex].give_back(request)
        self._forget(request)

    def _forget(self, request: MutexRequest) -> None:
        if self._mutex(request).idle:
            del self._mutexes[request.mutex]


async def _wait_for_either(turn: asyncio.Future[None], cancelled: asyncio.Event, seconds: float) -> None:
    """Returns when `turn` is done, `cancelled` is set or the time is up."""
    cancel = asyncio.ensure_future(cancelled.wait())
    either: set[asyncio.Future[Any]] = {turn, cancel}
    try:
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        cancel.cancel()


def _link(task: str) -> str:
    return f"[{task}](~/app#/tasks/{task})"


def _busy(mutex: _Mutex, request: MutexRequest) -> str:
    holders, several, own = mutex.holders(request.task)
    if several:
        return f"Waiting on scripts in tasks {holders} to finish. This script {_EXCLUSIVE}"
    if own:
        which = "this" if request.exclusive else "another"
        return f"Waiting on another script in this task to finish as {which} task {_EXCLUSIVE}"
    which = "this" if request.exclusive else "that"
    return f"Waiting for the script in task {holders} to finish as {which} script {_EXCLUSIVE}"


def _still_running(what: str, mutex: _Mutex, request: MutexRequest) -> str:
    holders, several, _ = mutex.holders(request.task)
    return f"{what} {f'Tasks {holders} are' if several else f'Task {holders} is'} still running."
