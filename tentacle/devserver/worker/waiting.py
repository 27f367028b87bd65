"""Time as something that is handed in, waiting for one thing or for another, and pauses between two looks.

Knows asyncio only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Time:
    """A clock in seconds that never goes back, and sleep."""

    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


async def ends_before(work: asyncio.Future[T], cancel: asyncio.Event) -> bool:
    """Returns whether `work` ends before `cancel` is set; if not, cancels `work` and waits until it has ended.

    Cancelling the caller cancels `work` too.
    """
    waiting = asyncio.ensure_future(cancel.wait())
    try:
        await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        waiting.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))
            if not work.cancelled():
                work.exception()


@dataclass(frozen=True)
class StatusInterval:
    """Seconds before the n-th look at a script, n from 1: `first * base ** n`, at most `limit`, in milliseconds."""

    base: float = 1.15
    first: float = 0.3
    limit: float = 5.0

    def before(self, number: int) -> float:
        # The power of a large number would overflow long after the limit is reached.
        return min(self.limit, round(self.first * self.base ** min(number, 200), 3))


LISTENING: Final = StatusInterval(1.15)
POLLING: Final = StatusInterval(1.4)
