"""Keeps the agent's parts running: one that fails is told about and started again, never silently gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tentacle.errors import one_line

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


async def keep_running(name: str, part: Callable[[], Awaitable[None]]) -> None:
    """Runs `part` again and again with growing pauses, until it returns or is cancelled."""
    pause = FIRST_PAUSE
    while True:
        try:
            await part()
        except Exception as error:
            log.exception("%s failed: %s. Starting it again in %.0f seconds", name, one_line(error), pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            return
