"""What an ephemeral worker leaves for the next run to clear up, should it be killed: a note of which worker it was.

Knows the note, which holds no secret, and that only one run at a time may keep it.  Must not know any server.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tentacle.errors import TentacleError
from tentacle.home_layout import EPHEMERAL_NOTE

_LARGEST: Final = 64 * 1024


@dataclass(frozen=True)
class Worker:
    """A worker that a run has made: on which server, in which space (None: the default), under which name.

    `machine_id` is None when the run ended before the server had told it.
    """

    server: str
    space: str | None
    name: str
    thumbprint: str
    machine_id: str | None = None


class Note:
    """The note of this run; `earlier` is the worker of a run before, which did not take it off."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self.earlier = None if descriptor is None else _parsed(os.pread(descriptor, _LARGEST, 0))

    def write(self, worker: Worker) -> None:
        """Remembers `worker` whatever becomes of this process.  Raises `OSError`."""
        content = json.dumps(asdict(worker)).encode()
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, content, 0)
            os.fsync(self._descriptor)

    def clear(self) -> None:
        """There is nothing to clear up any more."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)


@contextmanager
def noting(home: Path) -> Iterator[Note]:
    """The note in `home`, ours until the end; the system lets go of it however this process ends.

    Where nothing can be written, there is none, and nothing is lost but the clearing up.  Raises `TentacleError` while
    another run keeps it: its worker would be taken for one that was left.
    """
    try:
        descriptor = os.open(
            home / EPHEMERAL_NOTE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600
        )
    except OSError:
        yield Note(None)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise TentacleError(
            f"another agent is already running for {home}", hint="stop it first, or use another instance"
        ) from None
    try:
        yield Note(descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None)
    finally:
        os.close(descriptor)


def _parsed(content: bytes) -> Worker | None:
    """The worker in a note; None when it was cleared, or is not one of ours."""
    try:
        members = json.loads(content)
        worker = Worker(**members)
    except (ValueError, TypeError, RecursionError):
        return None
    needed = (worker.server, worker.name, worker.thumbprint)
    optional = (worker.space, worker.machine_id)
    good = all(isinstance(each, str) for each in needed) and all(isinstance(e, str | None) for e in optional)
    return worker if good else None
