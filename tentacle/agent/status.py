"""What a running agent tells the people of its own machine: a small file that is written often and read by `status`.

The file is for looking at only: nothing is ever decided by it, so it is not flushed to the disk, and whoever reads it
asks the lock whether the agent that wrote it is still there.  Knows the file's form; must not know what an agent is.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tentacle.home_layout import STATUS_FILE

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often the agent looks whether something has changed."""
REFRESH_SECONDS = 10.0
"""How old the file becomes while nothing changes."""
LARGEST_FILE = 1024 * 1024
_FORMAT = 1

RUNNING, DRAINING, STOPPED = "running", "draining", "stopped"


@dataclass(frozen=True)
class Polled:
    """One server that is polled: `up` of `asked` connections are identified.  `thumbprint` is its certificate's."""

    address: str
    subscription: str
    thumbprint: str
    asked: int
    up: int


@dataclass(frozen=True)
class AgentStatus:
    """The state of one agent.  Times are seconds since 1970; `listening` is an address, `None` when there is none."""

    phase: str
    pid: int
    since: float
    version: str
    thumbprint: str
    listening: str | None
    polled: tuple[Polled, ...]
    written: float = 0.0

    def encode(self) -> bytes:
        """The content of the file."""
        return json.dumps({"format": _FORMAT, **dataclasses.asdict(self)}, indent=2).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> AgentStatus:
        """What `encode` made.  Raises `ValueError` for anything else."""
        try:
            values = json.loads(data)
            if values.pop("format") != _FORMAT:
                raise ValueError("its format is another version's")
            polled = tuple(_checked(Polled(**each)) for each in values.pop("polled"))
            return _checked(cls(**values, polled=polled))
        except (TypeError, KeyError, AttributeError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError("it is not what an agent writes") from error


T = TypeVar("T", "AgentStatus", Polled)


def _checked(value: T) -> T:
    """`value` if its fields are of the kinds that they were declared as; raises `TypeError`."""
    for one in dataclasses.fields(value):
        given, kind = getattr(value, one.name), one.type
        fits = {
            "str": isinstance(given, str),
            "str | None": given is None or isinstance(given, str),
            "int": isinstance(given, int) and not isinstance(given, bool),
            "float": isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < 1e12,
        }.get(str(kind), True)
        if not fits:
            raise TypeError(one.name)
    return value


def write_status(home: Path, status: AgentStatus) -> None:
    """Puts `status` in place of what was there.  Raises `OSError`."""
    path = home / STATUS_FILE
    temporary = path.with_name(f".{STATUS_FILE}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(status.encode())
        temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def clear_unfinished(home: Path) -> None:
    """Removes what an agent that was killed while it wrote has left; for the only agent of `home`."""
    with contextlib.suppress(OSError), os.scandir(home) as entries:
        for left in entries:
            if left.name.startswith(f".{STATUS_FILE}.") and left.name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    os.unlink(left.path)  # noqa: PTH108


async def publish(home: Path, current: Callable[[], AgentStatus]) -> None:
    """Keeps the file up to date for ever: soon after a change, and now and then without one."""
    await asyncio.to_thread(clear_unfinished, home)
    last, at, failing = None, 0.0, False
    while True:
        status, now = current(), time.monotonic()
        if status != last or now - at >= REFRESH_SECONDS:
            last, at = status, now
            failing = not tell(home, status, quiet=failing)
        await asyncio.sleep(LOOK_SECONDS)


def tell(home: Path, status: AgentStatus, *, quiet: bool = False) -> bool:
    """Writes `status` with the time of now; false, and a line in the log unless `quiet`, when that is impossible."""
    try:
        write_status(home, dataclasses.replace(status, written=time.time()))
    except OSError as error:
        if not quiet:
            log.warning("Could not write %s: %s", home / STATUS_FILE, error.strerror)
        return False
    return True
