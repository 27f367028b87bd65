"""Which calls of polled servers have been carried out, and what was replied, on disk: another agent, after this one was
killed, replies the same and does nothing twice (docs/spec/https.md, "Once and no more").

One small file for each call, replaced as a whole.  Bounded in number, bytes and age.  Must not know calls.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from tentacle.disk import read_bytes, write_atomic
from tentacle.errors import TentacleError, one_line
from tentacle.records import dataclass

log = logging.getLogger(__name__)

MOST_CALLS: Final = 1000
MOST_BYTES: Final = 64 * 1024 * 1024
KEPT_SECONDS: Final = 7 * 86_400.0
_SWEEP_EVERY: Final = 100
_LARGEST: Final = 128 * 1024 * 1024


@dataclass(frozen=True)
class RecordedCall:
    """A call that was begun; without a `reply` it is not known whether it was carried out."""

    reply: bytes | None


class CallRecord:
    """All methods but `prepare` raise `TentacleError`, and belong into a thread."""

    def __init__(
        self, directory: Path, most_calls: int = MOST_CALLS, most_bytes: int = MOST_BYTES, kept: float = KEPT_SECONDS
    ) -> None:
        self._directory = directory
        self._most_calls, self._most_bytes, self._kept = most_calls, most_bytes, kept
        self._written = 0

    def prepare(self) -> None:
        """Removes what is too old or too much.  Does not raise: what cannot be recorded is refused later."""
        with suppress(OSError):
            self._sweep()

    def find(self, server: str, identity: str) -> RecordedCall | None:
        """What is known of a call; `None` for one that was never begun here."""
        path = self._path(server, identity)
        if not path.exists():
            return None
        head, end, reply = read_bytes(path, limit=_LARGEST).partition(b"\n")
        with suppress(ValueError, TypeError, KeyError):
            if end and json.loads(head)["length"] == len(reply):
                return RecordedCall(reply)
        return RecordedCall(None)

    def begin(self, server: str, identity: str) -> None:
        """Notes, before it is carried out, that a call must not be carried out again."""
        self._write(server, identity, None)

    def finish(self, server: str, identity: str, reply: bytes) -> None:
        """Keeps the reply, before it is sent."""
        self._write(server, identity, reply)

    def _write(self, server: str, identity: str, reply: bytes | None) -> None:
        head = {"server": server, "id": identity, "length": None if reply is None else len(reply)}
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self._path(server, identity), json.dumps(head).encode() + b"\n" + (reply or b""), mode=0o600)
        self._written += 1
        if self._written % _SWEEP_EVERY == 0:
            try:
                self._sweep()
            except OSError as error:
                log.warning("Old replies in %s cannot be removed: %s", self._directory, one_line(error))

    def _path(self, server: str, identity: str) -> Path:
        return self._directory / hashlib.sha256(f"{server}\0{identity}".encode()).hexdigest()

    def _sweep(self) -> None:
        """Removes the oldest."""
        found = []
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):
                status = path.lstat()
                found.append((status.st_mtime, status.st_size, path))
        calls = size = 0
        oldest = time.time() - self._kept
        for when, length, path in sorted(found, reverse=True):
            calls, size = calls + 1, size + length
            if calls > self._most_calls or size > self._most_bytes or when < oldest:
                path.unlink(missing_ok=True)


def try_finish(record: CallRecord, server: str, identity: str, reply: bytes) -> None:
    """Keeps a reply where that is possible: the call has been carried out, and its server waits for the reply."""
    try:
        record.finish(server, identity, reply)
    except (TentacleError, OSError) as error:
        log.warning("The reply to a call cannot be kept; if the agent is killed now, it is lost: %s", one_line(error))
