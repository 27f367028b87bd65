"""One agent per home directory: two would both take over the same scripts."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tentacle import disk
from tentacle.errors import TentacleError
from tentacle.home_layout import LOCK_FILE
from tentacle.late_imports import LateModule
from tentacle.path_walk import open_alone

if TYPE_CHECKING:
    from tentacle.agent import lock_holder
else:  # for one who finds the home held by another process
    lock_holder = LateModule("tentacle.agent.lock_holder")

log = logging.getLogger(__name__)

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_HINTS = {
    errno.EROFS: "mount its file system for writing, or put the home elsewhere",
    errno.ENOSPC: "make room on its file system; files need inodes too (df -i)",
    errno.EDQUOT: "make room within the quota of the user that runs the agent",
}
_ATTEMPTS = 5
_BETWEEN = 0.05
"""Seconds.  Whoever asks `holder` has the lock for a moment; an agent that starts just then tries again."""


def holder(home: Path) -> int | None:
    """The process that runs the agent of `home`, 0 when it is not known which; `None` when there is none.

    Raises `OSError` when that cannot be seen, e.g. because the directory belongs to somebody else.
    """
    try:
        descriptor = os.open(home / LOCK_FILE, _FLAGS | os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        disk.lock(descriptor, shared=True)
    except BlockingIOError:
        written = os.pread(descriptor, 20, 0).strip()
        return int(written) if written.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


@contextmanager
def only_agent(home: Path) -> Iterator[None]:
    """Holds the home directory for this process; the system lets go of it however the process ends.

    Raises `TentacleError` when another agent holds it, or the directory cannot be used.
    """
    path = home / LOCK_FILE
    try:
        home.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path)
        if _is_held_by_others(home, descriptor):
            aside = disk.move_aside(path)
            log.warning("A process that is no agent holds the lock of %s: the file is now called %s", home, aside)
            os.close(descriptor)
            descriptor = _open(path)
    except OSError as error:
        raise TentacleError(
            f"cannot use the home directory {home}: {error.strerror}",
            hint=_HINTS.get(error.errno or 0, "it must exist and belong to the user that runs the agent"),
        ) from error
    try:
        try:
            _lock(descriptor)
        except BlockingIOError:
            other = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise TentacleError(
                f"another agent (process {other}) is already running for {home}",
                hint="stop it first, or use another instance",
            ) from None
        except OSError as error:
            raise TentacleError(
                f"cannot lock {path}: {error.strerror}",
                hint="the home directory must lie on a file system that has locks",
            ) from error
        # On a full disk, or in a file that a script has made immutable, nobody reads who holds it.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Returns the open lock file.  What else a script of this user has put there is moved aside: no agent holds it.

    Raises `OSError`.
    """
    with suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            disk.move_aside(path)
    try:
        return open_alone(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not path.exists():
            raise
    if os.geteuid() != 0:
        with suppress(OSError):
            path.chmod(0o600)
    # A lock needs no right to write.
    return open_alone(path, os.O_RDONLY | os.O_NONBLOCK)


def _is_held_by_others(home: Path, descriptor: int) -> bool:
    """Whether a process has the lock that a script has left behind.  Raises `OSError`."""
    try:
        _lock(descriptor)
    except BlockingIOError:
        return not lock_holder.may_be_agent(home, descriptor)
    except OSError:
        # Told by whoever locks it in earnest.
        return False
    return False


def _lock(descriptor: int) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            disk.lock(descriptor)
        except BlockingIOError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_BETWEEN)
        else:
            return
