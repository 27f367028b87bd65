"""The flags by which a script of root can keep everybody, root too, from changing a file: immutable and append only.

Where this process may not take them away, or the file system has none, everything stays as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct

_FLAGS = struct.Struct("@l")
_GET, _SET = 0x80006601 | _FLAGS.size << 16, 0x40006602 | _FLAGS.size << 16
"""FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of ioctl_iflags(2)."""
_APPEND_ONLY, _IMMUTABLE = 0x20, 0x10
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def free(descriptor: int) -> bool:
    """Takes these flags from an open file or directory; returns whether it had any, and has none now."""
    with contextlib.suppress(OSError):
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            # It has another name elsewhere, and may be closed for a reason.
            return False
        (flags,) = _FLAGS.unpack(fcntl.ioctl(descriptor, _GET, _FLAGS.pack(0)))
        if flags & (_APPEND_ONLY | _IMMUTABLE):
            fcntl.ioctl(descriptor, _SET, _FLAGS.pack(flags & ~(_APPEND_ONLY | _IMMUTABLE)))
            return True
    return False


def free_path(path: str | os.PathLike[str], inside: int | None = None) -> bool:
    """As `free`, for what has that name, if it is a file or directory.  Follows no link at the end."""
    with contextlib.suppress(OSError):
        # A device may do anything when it is opened.
        kind = os.stat(path, dir_fd=inside, follow_symlinks=False).st_mode
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
            descriptor = os.open(path, _LOOK, dir_fd=inside)
            try:
                return free(descriptor)
            finally:
                os.close(descriptor)
    return False
