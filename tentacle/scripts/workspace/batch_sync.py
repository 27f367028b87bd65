"""Syncs the files of new runs to the disk, those of all waiting starts together.

One commit of the file system's journal takes as long for many files as for one, and a thread for each of them would
cost more than the commit.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

_SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None, use_errno=True)


class BatchSync:
    """Syncs new files of `directory`, and the directory.  Use from one event loop."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def sync(self, descriptor: int) -> None:
        """Returns when the open file and its name are on the disk; raises `OSError`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A descriptor of its own, since the caller may be cancelled and close the file.
        self._waiting.append((os.dup(descriptor), done))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        await done

    async def aclose(self) -> None:
        """Waits until all pending files are synced."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            failures = await asyncio.to_thread(_sync_all, [file for file, _ in batch], self._directory)
            for (_, done), failure in zip(batch, failures, strict=True):
                if done.done():
                    continue
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)
        self._task = None


def _sync_all(files: Sequence[int], directory: Path) -> list[OSError | None]:
    """Syncs and closes the files; returns the error of each, `None` without one."""
    if len(files) > 1:
        for file in files:
            # Starts the writes of all files before waiting for one, so that the first journal commit covers all.
            _libc.sync_file_range(file, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)
    failures = [_sync(file) for file in files]
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        return [failure or error for failure in failures]
    failure = _sync(folder)
    return [own or failure for own in failures]


def _sync(descriptor: int) -> OSError | None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        return error
    finally:
        os.close(descriptor)
    return None
