"""Which `traceparent` counts, and that what is worked for goes with tasks and is gone afterwards."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.trace_context import Work, current_work, read_trace, working_for

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize("parent", [GOOD, f"00-{TRACE}-{SPAN}-ff", f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-x"])
def test_a_good_one_is_read(parent: str) -> None:
    trace = read_trace(parent)
    assert trace is not None
    assert (trace.parent, trace.trace_id, trace.span_id) == (parent, TRACE, SPAN)


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-x",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        GOOD.upper(),
        f" {GOOD}",
        f"{GOOD}\n",
        f"01-{TRACE}-{SPAN}-01-\n",
        f"01-{TRACE}-{SPAN}-01-{'x' * 300}",
        f"00-{TRACE}-{SPAN}-0١",
    ],
)
def test_a_bad_one_is_ignored(parent: str | None) -> None:
    assert read_trace(parent) is None


@given(st.text() | st.from_regex(r"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.?\Z"))
def test_what_is_read_can_stand_in_a_line_and_in_an_environment(parent: str) -> None:
    trace = read_trace(parent)
    assert trace is None or (trace.parent == parent and parent.isprintable() and len(parent) <= 256)


async def test_work_goes_with_the_tasks_that_it_begins() -> None:
    async def see() -> str:
        await asyncio.sleep(0)
        return current_work().ticket

    before = asyncio.create_task(see())
    with working_for(Work(ticket="T")):
        inside = asyncio.create_task(see())
    assert (await before, await inside, current_work()) == ("", "T", Work())
