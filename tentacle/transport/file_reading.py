"""Reads a file that is sent: in place what is in the system's page cache, as most is, and in a thread what is not.

A thread costs half a millisecond for each piece, in which nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import BinaryIO

_AHEAD = 4 * 1024 * 1024
"""Bytes that the system is told to read soon, once it had to be waited for."""


async def read_at(file: BinaryIO, offset: int, most: int) -> bytes:
    """Returns between one and `most` bytes from `offset` on; `b""` at the end of the file.  Raises `OSError`."""
    room = bytearray(most)
    try:
        size = os.preadv(file.fileno(), [room], offset, os.RWF_NOWAIT)
    except OSError:
        # They are not there yet, or nobody can say; what else is wrong the thread will find as well.
        return await asyncio.to_thread(_read_slowly, file, offset, most)
    return bytes(memoryview(room)[:size])


def _read_slowly(file: BinaryIO, offset: int, most: int) -> bytes:
    with suppress(OSError):
        os.posix_fadvise(file.fileno(), offset, _AHEAD, os.POSIX_FADV_WILLNEED)
    file.seek(offset)
    return file.read(most)
