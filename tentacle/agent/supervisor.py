"""Keeps the agent's parts running: one that fails is told about and started again, never silently gone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from tentacle.errors import one_line

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


async def keep_running(
    name: str,
    part: Callable[[], Awaitable[object]],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Runs `part` again and again with growing pauses, until it returns or is cancelled.

    A part that ran for longer than the longest pause, by `clock` in seconds, had recovered: the pauses begin anew.
    """
    pause = FIRST_PAUSE
    while True:
        began = clock()
        try:
            await part()
        except Exception as error:
            pause = FIRST_PAUSE if clock() - began > LONGEST_PAUSE else pause
            log.exception("%s failed: %s. Starting it again in %.0f seconds", name, one_line(error), pause)
            await sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            return
