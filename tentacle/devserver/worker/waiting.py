"""Waiting for one thing or for another, and time as something that is handed in.

Knows asyncio only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Time:
    """Time for whoever waits: a clock in seconds that never goes back, and sleep."""

    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


async def ends_before(work: asyncio.Future[T], cancel: asyncio.Event) -> bool:
    """Whether `work` ends before `cancel` is set; when it does not, it is cancelled, waited for and forgotten.

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
