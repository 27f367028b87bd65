"""Much output, long lines, both streams at once: in bounded memory, in order, whole."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from itertools import pairwise

from tentacle.contracts.script import ProcessState
from tentacle.errors import TentacleError
from tentacle.scripts.engine import EngineOptions, RunStatus
from tests.patience import PATIENCE
from tests.scripts.lab import Lab

MEBIBYTE = 1024 * 1024


async def read_all(lab: Lab, take: Callable[[str], None]) -> int:
    """Hands every line to `take`; gives the number of pages."""
    after, pages = 0, 0
    while True:
        status = await lab.engine.status("T-1", after)
        assert status is not None
        for entry in status.entries:
            take(entry.text)
        after, pages = status.next_sequence, pages + 1
        await asyncio.sleep(0 if status.entries else 0.005)
        if status.state is ProcessState.COMPLETE:
            return pages


async def test_a_million_lines_come_in_bounded_pages(lab: Lab) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await lab.start("seq 1 1000000")
    expected, wrong = iter(range(1, 1_000_001)), []

    def check(text: str) -> None:
        if text.isdigit() and int(text) != next(expected):
            wrong.append(text)

    await lab.engine.drain(TentacleError("no more"), PATIENCE)
    pages = await read_all(lab, check)
    assert not wrong
    assert next(expected, None) is None
    assert pages < 12
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


async def test_a_line_without_end_is_cut_and_takes_no_memory(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab(EngineOptions(line_limit=MEBIBYTE, page_bytes=2 * MEBIBYTE, minimum_free_bytes=None))
    await lab.engine.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await lab.run("head -c 60000000 /dev/zero | tr '\\0' z; echo; echo end")
    lengths: list[int] = []
    await read_all(lab, lambda text: lengths.append(text.count("z")) if text.startswith("zz") else None)
    assert sum(lengths) == 60_000_000
    assert max(lengths) == MEBIBYTE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


async def test_both_streams_at_once_keep_their_own_order(lab: Lab) -> None:
    await lab.run("seq -f 'o%.0f' 1 20000 & seq -f 'e%.0f' 1 20000 >&2; wait")
    numbers: dict[str, list[int]] = {"o": [], "e": []}
    await read_all(lab, lambda text: numbers[text[0]].append(int(text[1:])) if text[1:].isdigit() else None)
    for stream in numbers.values():
        assert stream == list(range(1, 20_001))


async def test_pages_of_a_growing_log_never_repeat_an_entry(lab: Lab) -> None:
    await lab.start("for i in {1..300}; do echo $i; [ $((i % 100)) = 0 ] && sleep 0.05; done")
    seen: list[str] = []
    await read_all(lab, seen.append)
    digits = [int(text) for text in seen if text.isdigit()]
    assert all(b == a + 1 for a, b in pairwise(digits))
    assert len(digits) == 300


async def test_a_status_call_costs_what_is_new(lab: Lab) -> None:
    await lab.start("seq 1 300000; echo ready; sleep 600")
    after, last = 0, ""
    while last != "ready":
        status = await lab.engine.status("T-1", after)
        assert status is not None
        after, last = status.next_sequence, status.entries[-1].text if status.entries else last
    before = time.process_time()
    for _ in range(100):
        status = await lab.engine.status("T-1", after)
        assert status is not None
        assert status.entries == ()
    assert time.process_time() - before < 0.2


async def test_many_long_logs_at_once_come_in_smaller_pages(new_lab: Callable[..., Lab]) -> None:
    """And one after the other, each page is as long as it may be."""
    page = 4 * MEBIBYTE
    lab = new_lab(EngineOptions(page_bytes=page, minimum_free_bytes=None))
    await lab.engine.start()
    line = "x" * 10_000
    await asyncio.create_task(lab.run(f"for i in $(seq 1 500); do echo {line}; done"))

    def size(status: RunStatus | None) -> int:
        assert status is not None
        return sum(len(entry.text) for entry in status.entries)

    async def call(read: asyncio.Barrier | None = None, packed: asyncio.Event | None = None) -> int:
        length = size(await lab.engine.status("T-1", 0))
        if read and packed:
            await read.wait()
            await packed.wait()
        return length

    alone = await asyncio.create_task(call())
    assert alone > page * 0.9
    sizes = await asyncio.gather(*(call() for _ in range(20)))
    assert max(sizes) <= alone
    assert min(sizes) >= 200_000
    assert sum(sizes) < 2 * page + 20 * 256 * 1024
    read, packed = asyncio.Barrier(3), asyncio.Event()
    waiting = [asyncio.create_task(call(read, packed)) for _ in range(2)]
    await read.wait()
    after_them = await asyncio.create_task(call())
    assert after_them < alone * 0.3, "they count until they are packed"
    packed.set()
    assert sum(await asyncio.gather(*waiting)) < 2 * alone
    assert await asyncio.create_task(call()) == alone


async def test_many_logs_of_short_lines_at_once_come_in_smaller_pages_too(lab: Lab) -> None:
    """Such a log is short, but each of its lines is an entry."""
    count = 60_000
    await asyncio.create_task(lab.run(f"yes '' | head -n {count}"))

    async def call() -> int:
        status = await lab.engine.status("T-1", 0)
        assert status is not None
        return len(status.entries)

    alone = await asyncio.create_task(call())
    assert alone > count
    assert sum(await asyncio.gather(*(call() for _ in range(20)))) < 6 * count
