"""However many strangers come, the log says little of them and all of servers."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest

from tentacle.counted_log import CountedLog
from tests.patience import PATIENCE


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tentacle")


async def test_the_first_of_a_kind_is_told_at_once_and_the_others_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    told = CountedLog()
    for number in range(1000):
        told.tell(logging.INFO, "it is odd", f"h:{number}", f"h:{number} is odd")
        told.tell(logging.WARNING, "it is even", f"h:{number}", f"h:{number} is even")
    assert lines(caplog) == ["h:0 is odd", "h:0 is even"]
    told.aclose()
    assert lines(caplog)[2:] == [
        "999 more connection(s) like this, the last with h:999: it is odd",
        "999 more connection(s) like this, the last with h:999: it is even",
    ]
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.WARNING] * 2


async def test_there_is_one_line_in_each_interval_for_as_long_as_they_come(caplog: pytest.LogCaptureFixture) -> None:
    told = CountedLog(interval=0.05)
    async with asyncio.timeout(PATIENCE):
        while len(caplog.records) < 4:
            told.tell(logging.INFO, "it is odd", "h:1", "h:1 is odd")
            await asyncio.sleep(0)
    first, *following = lines(caplog)
    assert first == "h:1 is odd"
    assert all(line.endswith("more connection(s) like this, the last with h:1: it is odd") for line in following)
    moments = [record.created for record in caplog.records]
    assert all(later - earlier > 0.03 for earlier, later in pairwise(moments))
    told.aclose()


async def test_what_comes_later_is_told_at_once_again(caplog: pytest.LogCaptureFixture) -> None:
    told = CountedLog(interval=0.01)
    async with asyncio.timeout(PATIENCE):
        while lines(caplog).count("h:1 is odd") < 2:
            told.tell(logging.INFO, "it is odd", "h:1", "h:1 is odd")
            await asyncio.sleep(0.05)
    told.aclose()


async def test_kinds_that_strangers_make_up_are_few(caplog: pytest.LogCaptureFixture) -> None:
    told = CountedLog()
    for number in range(10_000):
        told.tell(logging.INFO, f"kind {number}", f"h:{number}", f"h:{number} is of kind {number}")
    told.aclose()
    assert len(caplog.records) < 20
    assert lines(caplog)[-1] == "9983 more connection(s) like this, the last with h:9999: other kinds"
