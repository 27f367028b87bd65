"""What a running agent tells the people of its own machine: on the control channel, and in a small file for those who
cannot ask it there.

The file is for looking at only: nothing is ever decided by it, so it is not flushed to the disk, and whoever reads it
asks the lock whether the agent that wrote it is still there.  Knows the file's form; must not know what an agent is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import time
from pathlib import Path
from typing import Any, TypeVar

from tentacle.agent.drain import Drain
from tentacle.home_layout import STATUS_FILE
from tentacle.records import dataclass

log = logging.getLogger(__name__)

LARGEST_FILE = 1024 * 1024
_FORMAT = 1
THE_CERTIFICATE = "the certificate"
"""Among what waits for a restart."""

RUNNING, DRAINING, STOPPING, STOPPED = "running", "draining", "stopping", "stopped"
"""`draining`: an operator wants no new scripts here; `stopping`: the agent ends."""


@dataclass(frozen=True)
class Link:
    """One polling connection: up or down since when; what its last failure was, and when.  None where there is none."""

    number: int
    up: bool
    since: float | None = None
    error: str | None = None
    failed: float | None = None


@dataclass(frozen=True)
class Polled:
    """One server that is polled: `up` of `asked` connections are identified.  `thumbprint` is its certificate's."""

    address: str
    subscription: str
    thumbprint: str
    asked: int
    up: int
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class LastScript:
    """The script that was asked for last, and when; `ended` and `exit_code` are None as long as it has not ended."""

    ticket: str
    task: str
    since: float
    ended: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class CallingServer:
    """A server that has called since the agent started: its certificate's thumbprint, and its `generation`, `modern`
    or `old` (docs/spec/wire.md, "Records and old peers").
    """

    thumbprint: str
    generation: str


@dataclass(frozen=True)
class AgentStatus:
    """The state of one agent.  Times are seconds since 1970; `listening` is an address, `None` when there is none.

    `drain` is what the operator asked for; `called` when a server was answered last; `waiting` what has been changed
    and holds after a restart only; `callers` which servers have called, in whichever direction the connection was made.
    `version` is the agent's own, `reported_version` the one that servers are told; `obstacle` is why no script at all
    can be run; `launcher` the process of another unit that starts the scripts, if there is one.
    """

    phase: str
    pid: int
    since: float
    version: str
    thumbprint: str
    listening: str | None
    polled: tuple[Polled, ...]
    written: float = 0.0
    drain: Drain | None = None
    called: float | None = None
    last_script: LastScript | None = None
    waiting: tuple[str, ...] = ()
    callers: tuple[CallingServer, ...] = ()
    reported_version: str = ""
    obstacle: str | None = None
    launcher: int | None = None

    def in_short(self) -> str:
        """What an operator wants to know at a glance, without the scripts."""
        parts = [self.phase] if self.phase != RUNNING else []
        parts += [f"listening on {self.listening}"] if self.listening else []
        if self.polled:
            up, asked = sum(one.up for one in self.polled), sum(one.asked for one in self.polled)
            servers = f"{len(self.polled)} server{'' if len(self.polled) == 1 else 's'}"
            parts.append(f"polling {servers}, {up} of {asked} connections up")
        return "; ".join(parts or ["neither listening nor polling"])

    def document(self) -> dict[str, Any]:
        """Its values by name, as they are written."""
        return {"format": _FORMAT, **dataclasses.asdict(self)}

    def encode(self) -> bytes:
        """The content of the file."""
        return json.dumps(self.document(), indent=2).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> AgentStatus:
        """What `encode` made.  Raises `ValueError` for anything else."""
        try:
            return cls.read(json.loads(data))
        except (RecursionError, UnicodeDecodeError) as error:
            raise ValueError("it is not what an agent writes") from error

    @classmethod
    def read(cls, values: Any) -> AgentStatus:
        """What `document` made, here or in another version with the same format.  Raises `ValueError`."""
        try:
            if values["format"] != _FORMAT:
                raise ValueError("its format is another version's")
            polled = (_read(Polled, {**each, "links": _each(Link, each.get("links"))}) for each in values["polled"])
            waiting = tuple(map(str, values.get("waiting", ())))
            last, drain = values.get("last_script"), values.get("drain")
            nested = {
                "polled": tuple(polled),
                "waiting": waiting,
                "callers": tuple(_read(CallingServer, one) for one in values.get("callers", ())),
                "last_script": None if last is None else _read(LastScript, last),
                "drain": None if drain is None else _read(Drain, drain),
            }
            return _read(cls, {**values, **nested})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("it is not what an agent writes") from error


T = TypeVar("T", "AgentStatus", Polled, Link, LastScript, Drain, CallingServer)


def _each(kind: type[Link], values: Any) -> tuple[Link, ...]:
    return tuple(_read(kind, one) for one in values or ())


def _read(kind: type[T], values: Any) -> T:
    """One value; names that this version does not know are left out, and those that it misses have their defaults.

    Raises `TypeError` for a field of another kind than it was declared as.
    """
    known = {one.name: str(one.type) for one in dataclasses.fields(kind)}
    value = kind(**{name: given for name, given in values.items() if name in known})
    for name, declared in known.items():
        if not _fits(getattr(value, name), declared):
            raise TypeError(name)
    return value


def _fits(given: Any, declared: str) -> bool:
    wanted, _, optional = declared.partition(" | ")
    if given is None:
        return optional == "None"
    number = isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < 1e12
    return {
        "str": isinstance(given, str),
        "bool": isinstance(given, bool),
        "int": number and isinstance(given, int),
        "float": number,
    }.get(wanted, True)


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


def tell(home: Path, status: AgentStatus, *, quiet: bool = False) -> bool:
    """Writes `status` with the time of now; false, and a line in the log unless `quiet`, when that is impossible."""
    try:
        write_status(home, dataclasses.replace(status, written=time.time()))
    except OSError as error:
        if not quiet:
            log.warning("Could not write %s: %s", home / STATUS_FILE, error.strerror)
        return False
    return True
