"""Files that are sent: what is in the system's memory is read in place, and the rest in a thread."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tentacle.transport.file_reading import read_at


class CountingExecutor(ThreadPoolExecutor):
    """Knows how much it was given to do."""

    given = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given += 1
        return super().submit(fn, *args, **kwargs)


async def whole(path: Path, most: int) -> bytes:
    found = b""
    with path.open("rb", buffering=0) as file:
        while data := await read_at(file, len(found), most):
            found += data
    return found


async def test_what_has_just_been_written_is_read_without_a_thread(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 4096)
    with CountingExecutor() as executor:
        asyncio.get_running_loop().set_default_executor(executor)
        assert await whole(tmp_path / "file", 1 << 16) == bytes(range(256)) * 4096
        assert executor.given == 0


async def test_what_is_not_in_memory_is_read_all_the_same(tmp_path: Path) -> None:
    """On file systems that keep nothing on a disk it is there all the time."""
    (tmp_path / "file").write_bytes(bytes(range(256)) * 4096)
    with (tmp_path / "file").open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert await whole(tmp_path / "file", 1 << 16) == bytes(range(256)) * 4096


async def test_a_file_whose_system_cannot_say_what_it_has_is_read_all_the_same() -> None:
    path = Path("/proc/self/status")
    assert (await whole(path, 100)).startswith(b"Name:")


async def test_a_file_in_memory_has_no_number_and_is_read_all_the_same() -> None:
    assert await read_at(io.BytesIO(b"abcdef"), 2, 3) == b"cde"


async def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match=r"^read$"):
        await read_at(file, 0, 10)


@given(data=st.binary(max_size=200), most=st.integers(1, 50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_pieces_make_the_file_whatever_their_size(tmp_path: Path, data: bytes, most: int) -> None:
    (tmp_path / "file").write_bytes(data)
    assert await whole(tmp_path / "file", most) == data
