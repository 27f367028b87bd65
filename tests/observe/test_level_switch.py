"""The level of the logs is changed while a program runs, and goes back by itself."""

from __future__ import annotations

import asyncio
import io
import logging

from tentacle.observe.logfile import FileLogHandler
from tentacle.observe.logs import ConsoleHandler, logging_to
from tentacle.observe.redaction import Redactor
from tests.patience import PATIENCE


async def test_a_level_holds_for_a_while() -> None:
    stdout = io.StringIO()
    log = logging.getLogger("tentacle.x")
    with logging_to(ConsoleHandler(stdout, io.StringIO()), FileLogHandler(), Redactor(), {}) as levels:
        log.debug("before")
        levels.change(logging.DEBUG, 0.05)
        log.debug("meanwhile")
        async with asyncio.timeout(PATIENCE):
            while levels.level != logging.INFO:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert levels.until is None
        log.debug("after")
    assert stdout.getvalue().splitlines() == [
        "The level of this log is Debug for 0.05 seconds",
        "meanwhile",
        "The level of this log is Info",
    ]


async def test_a_later_change_counts_and_the_earlier_one_ends_nothing() -> None:
    stdout = io.StringIO()
    log = logging.getLogger("tentacle.x")
    with logging_to(ConsoleHandler(stdout, io.StringIO()), FileLogHandler(), Redactor(), {}) as levels:
        levels.change(logging.DEBUG, 0.01)
        levels.change(logging.WARNING)
        await asyncio.sleep(0.05)
        assert (levels.level, levels.until) == (logging.WARNING, None)
        log.info("quiet")
        levels.change(None)
        log.info("loud")
    assert "quiet" not in stdout.getvalue()
    assert stdout.getvalue().endswith("loud\n")
