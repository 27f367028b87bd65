"""Has the system begin to write what a file has in memory, so that a later sync finds little left to do."""

from __future__ import annotations

import ctypes
from typing import Final

_SYNC_FILE_RANGE_WRITE: Final = 2
_libc: Final = ctypes.CDLL(None, use_errno=True)


def start_writing(descriptor: int) -> None:
    """Waits for nothing but room in the disk's queue, and reports nothing: the sync does."""
    _libc.sync_file_range(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)
