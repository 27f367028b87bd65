"""Reads the log of a script on and on, while it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from tentacle.contracts.script import ProcessState
from tentacle.scripts.engine import RunStatus, ScriptEngine

LOOK_SECONDS = 0.2
"""How often it is looked whether a script has said more."""
_PAGE_BYTES = 128 * 1024
"""Many may follow, and none of them is to hold much, or keep others waiting."""


async def follow(engine: ScriptEngine, ticket: str, after: int) -> AsyncGenerator[RunStatus, None]:
    """Yields the entries after number `after`, page by page, and a page without any whenever there is nothing new.

    The last one has the state "complete", unless the script is not known, or the agent ends before the script does.
    """
    run = await engine.find(ticket)
    while run is not None:
        status = await engine.status(ticket, after, _PAGE_BYTES)
        if status is None:
            # It was completed meanwhile.
            if run.ended.is_set() and run.result is not None:
                yield RunStatus(ProcessState.COMPLETE, run.exit_code, (), after)
            return
        yield status
        if status.state is ProcessState.COMPLETE:
            return
        more, after = status.next_sequence > after, status.next_sequence
        if more:
            continue
        if run.ended.is_set() and run.result is None:
            # The agent has let go of it.
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await run.ended.wait()
