"""The free space that must be there before anything big is begun (tentacle-services.md 5.3)."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from tentacle.scripts.errors import NotEnoughSpaceError

_MEBIBYTE = 1024 * 1024
_UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")

FOR_A_SCRIPT = 500 * _MEBIBYTE
"""Bytes that a script may need, before the margin."""


def with_margin(size: int) -> int:
    """The bytes that must be free for `size` bytes of work: a tenth and a mebibyte more."""
    return size + size // 10 + _MEBIBYTE


def require_free(directory: Path, size: int) -> None:
    """Raises `NotEnoughSpaceError` unless `size` bytes and their margin fit beside what is in `directory`."""
    status = os.statvfs(directory)
    free, required = status.f_bavail * status.f_frsize, with_margin(size)
    if free < required:
        raise NotEnoughSpaceError(
            f"The drive '{_mount_point(directory)}' containing the directory '{directory}' on machine "
            f"'{platform.node()}' does not have enough free disk space available for this operation to proceed. "
            f"The disk only has {file_size(free)} available; please free up at least {file_size(required)}."
        )


def file_size(size: int) -> str:
    """A size for people: steps of 1024, three decimals at most, none that are zero (`1.434 GB`)."""
    step = min((max(size, 1).bit_length() - 1) // 10, len(_UNITS) - 1)
    number = f"{max(size, 0) / 1024**step:.3f}".rstrip("0").rstrip(".")
    return f"{number} {_UNITS[step]}"


def _mount_point(directory: Path) -> Path:
    path = directory.resolve()
    while not path.is_mount() and path != path.parent:
        path = path.parent
    return path
