"""Tells when something changes in a directory, by inotify(7): who would look again and again never sleeps long.

Knows one descriptor in the event loop.  Must not know what is looked for.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x4, 0x8, 0x40, 0x80, 0x100, 0x200
_CHANGES: Final = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_MANY: Final = 64 * 1024


@contextmanager
def changes_in(directories: Iterable[Path]) -> Iterator[asyncio.Event | None]:
    """Yields an event that is set whenever an entry of one of them changes; `None` where the system does not tell.

    A network file system tells of the changes that this machine makes alone, so somebody has to look now and then.
    """
    descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        yield None
        return
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def take() -> None:
        os.read(descriptor, _MANY)
        changed.set()

    try:
        if any(_libc.inotify_add_watch(descriptor, os.fsencode(one), _CHANGES) < 0 for one in directories):
            yield None
            return
        loop.add_reader(descriptor, take)
        try:
            yield changed
        finally:
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)
