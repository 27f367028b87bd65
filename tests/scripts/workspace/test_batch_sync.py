"""Those who wait for the disk at the same time wait for it together."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tentacle.scripts.workspace.batch_sync import BatchSync


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


async def test_files_that_come_meanwhile_share_the_next_sync(tmp_path: Path, file: int) -> None:
    """While a turn is under way, here held up by a busy thread, all others become one turn behind it."""
    busy, free = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        free.wait(30)

    threads = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(threads)
    threads.submit(hold)
    busy.wait(30)
    sync = BatchSync(tmp_path)
    waiting = [asyncio.create_task(sync.sync(file)) for _ in range(6)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # One turn for the first that came, the rest waits for the next one.
    assert threads._work_queue.qsize() == 1
    free.set()
    await asyncio.gather(*waiting)
    await sync.sync(file)
    await sync.aclose()


async def test_a_failure_belongs_to_its_own_file_and_a_cancelled_wait_harms_no_other(tmp_path: Path, file: int) -> None:
    sync = BatchSync(tmp_path)
    pipe, writer = os.pipe()
    left = asyncio.create_task(sync.sync(file))
    # A pipe cannot be synced.
    failing = asyncio.create_task(sync.sync(pipe))
    fine = asyncio.create_task(sync.sync(file))
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(OSError, match="Invalid argument"):
        await failing
    await fine
    await asyncio.gather(left, return_exceptions=True)
    os.close(pipe)
    os.close(writer)


async def test_without_the_directory_nothing_is_on_the_disk(tmp_path: Path, file: int) -> None:
    with pytest.raises(FileNotFoundError):
        await BatchSync(tmp_path / "nowhere").sync(file)
