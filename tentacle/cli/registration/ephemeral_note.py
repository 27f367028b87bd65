"""The note by which the next run of an ephemeral worker finds the worker of a run that was killed, and removes it.

The note is a file without secrets, which one run at a time may hold.  Must not know any server.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from tentacle.disk import lock
from tentacle.errors import TentacleError
from tentacle.home_layout import EPHEMERAL_NOTE
from tentacle.path_walk import open_alone
from tentacle.records import dataclass
from tentacle.settings import trust
from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer
from tentacle.settings.stored_certificate import StoredCertificate

_LARGEST: Final = 64 * 1024


@dataclass(frozen=True)
class NotedWorker:
    """A worker that a run has made: on which server, in which space (None: the default), under which name.

    `machine_id` is None when the run ended before the server had answered with it.  From then on the run works with
    what stands in no configuration: its certificate (PEM) and the server that it trusts, `polled` or not.
    """

    server: str
    space: str | None
    name: str
    thumbprint: str
    machine_id: str | None = None
    certificate: str | None = None
    server_thumbprint: str | None = None
    polled: str | None = None
    subscription: str | None = None

    @classmethod
    def parse(cls, content: bytes) -> NotedWorker | None:
        """The worker in a note; None when the note was cleared, or is not one of ours."""
        try:
            worker = cls(**json.loads(content))
        except (ValueError, TypeError, RecursionError):
            return None
        needed = (worker.server, worker.name, worker.thumbprint)
        optional = (
            *(worker.space, worker.machine_id, worker.certificate),
            *(worker.server_thumbprint, worker.polled, worker.subscription),
        )
        good = all(isinstance(each, str) for each in needed) and all(isinstance(e, str | None) for e in optional)
        return worker if good else None


def running_worker(home: Path) -> NotedWorker | None:
    """The worker of the ephemeral run in `home`; None where none runs, or that cannot be seen."""
    try:
        descriptor = open_alone(home / EPHEMERAL_NOTE, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        lock(descriptor, shared=True)
    except BlockingIOError:
        return NotedWorker.parse(os.pread(descriptor, _LARGEST, 0))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def settings_of_run(settings: Settings, worker: NotedWorker) -> Settings:
    """What an ephemeral run works with, to be shown; a certificate of its own is without its key."""
    if settings.certificate is None and worker.certificate:
        stored = StoredCertificate(worker.thumbprint, worker.certificate.encode(), b"")
        settings = replace(settings, certificate=stored)
    if worker.server_thumbprint is None:
        return settings
    style = CommunicationStyle.TENTACLE_ACTIVE if worker.polled else CommunicationStyle.TENTACLE_PASSIVE
    server = TrustedServer(worker.server_thumbprint, style, worker.polled, worker.subscription)
    servers = trust.add_or_update(settings.servers, server)
    return replace(settings, servers=servers, no_listen=settings.no_listen or bool(worker.polled))


class Note:
    """The note of this run; `earlier` is the worker that a run before has left on its server.

    Without a `descriptor` nothing is noted.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self.earlier = None if descriptor is None else NotedWorker.parse(os.pread(descriptor, _LARGEST, 0))

    def write(self, worker: NotedWorker) -> None:
        """Puts `worker` on the disk.  Raises `OSError`."""
        content = json.dumps(asdict(worker)).encode()
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, content, 0)
            os.fsync(self._descriptor)

    def clear(self) -> None:
        """Forgets the worker, which is on no server any more.  Raises `OSError`."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)


def another_is_running(home: Path) -> TentacleError:
    """The refusal to run where an agent of the same instance runs, which would be the same worker."""
    return TentacleError(f"another agent is already running for {home}", hint="stop it first, or use another instance")


@contextmanager
def noting(home: Path) -> Iterator[Note]:
    """Holds the note in `home`; the system lets go of it however this process ends.

    Where nothing can be written, nothing is noted, and a killed run's worker stays on its server.  Raises
    `TentacleError` while another run holds the note: its worker would be taken for one that was left.
    """
    try:
        descriptor = open_alone(home / EPHEMERAL_NOTE, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        yield Note(None)
        return
    try:
        found = os.fstat(descriptor)
        # Scripts may be allowed to make files in the home: what one has written, or locked, there is no note.
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (os.geteuid(), home.stat().st_uid):
            yield Note(None)
            return
        try:
            lock(descriptor)
        except BlockingIOError:
            raise another_is_running(home) from None
        yield Note(descriptor)
    finally:
        os.close(descriptor)
