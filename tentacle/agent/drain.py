"""That an operator wants no new scripts here: a file in the home, so that it holds over restarts.

The file is all there is to it: where it exists, the agent drains, whatever stands in it (docs/spec/control.md,
"Draining").  An agent writes it when it is asked to; a command does where no agent runs.  Scripts with users of their
own may make files in the home, too: what belongs to none of the users whose instance this is does not count.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tentacle.disk import DiskError, cannot, move_aside, read_bytes, write_atomic
from tentacle.home_layout import DRAIN_FILE, LOCK_FILE, WORK
from tentacle.records import dataclass

_LARGEST: Final = 16 * 1024
_LATEST: Final = 1e11
"""Seconds since 1970; later years have five digits."""
LONGEST_TEXT: Final = 500
"""Characters of a reason or a name."""


@dataclass(frozen=True)
class Drain:
    """Since when, in seconds since 1970, by which user of this machine, and why.  What is not known is empty."""

    since: float
    by: str = ""
    reason: str = ""

    def __str__(self) -> str:
        by, why = self.by and f" by {self.by}", self.reason and f" ({self.reason})"
        return f"since {datetime.fromtimestamp(self.since, UTC):%Y-%m-%d %H:%M:%S} UTC{by}{why}"


def read_drain(home: Path) -> Drain | None:
    """What the file says; None where there is none.  One that cannot be read counts, too.

    Raises `OSError` when it cannot be seen whether there is one.
    """
    path = home / DRAIN_FILE
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not _is_of_an_operator(found, home):
        return None
    since = found.st_mtime
    with suppress(OSError, DiskError, ValueError, RecursionError):
        values = json.loads(read_bytes(path, limit=_LARGEST))
        if isinstance(values, dict):
            said, by, reason = values.get("since"), values.get("by", ""), values.get("reason", "")
            if isinstance(said, int | float) and 0 <= said < _LATEST:
                since = float(said)
            return Drain(since, *(text[:LONGEST_TEXT] if isinstance(text, str) else "" for text in (by, reason)))
    return Drain(since)


def _is_of_an_operator(found: os.stat_result, home: Path) -> bool:
    """False for what a script has made that has a user of its own."""
    owners = {0, os.geteuid()}
    for path in (home, home / WORK, home / LOCK_FILE):
        with suppress(OSError):
            owners.add(path.lstat().st_uid)
    return found.st_uid in owners


def _clear_of_scripts(home: Path) -> None:
    """Moves aside what a script has put in place of the file, which may be a directory."""
    path = home / DRAIN_FILE
    with suppress(OSError):
        if not _is_of_an_operator(path.lstat(), home):
            move_aside(path)


def begin_drain(home: Path, drain: Drain) -> Drain:
    """Makes the file; returns what it says.  One that is there stays, but for a new reason.

    Raises `DiskError`, and `OSError` as `read_drain`.
    """
    _clear_of_scripts(home)
    existing = read_drain(home)
    if existing is not None:
        if not drain.reason or drain.reason == existing.reason:
            return existing
        drain = Drain(existing.since, drain.by, drain.reason)
    drain = Drain(drain.since, drain.by[:LONGEST_TEXT], drain.reason[:LONGEST_TEXT])
    # Root may do this for an agent of another user, who must be able to undo it.
    like = next((one for one in (home / LOCK_FILE, home / WORK) if one.exists()), home)
    write_atomic(home / DRAIN_FILE, json.dumps(asdict(drain)).encode() + b"\n", mode=0o600, like=like)
    return drain


def end_drain(home: Path) -> bool:
    """Removes the file; returns whether there was one.  Raises `DiskError`."""
    _clear_of_scripts(home)
    path = home / DRAIN_FILE
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        # On a file system that is read-only the kernel says so before it looks for the file.
        with suppress(OSError):
            if read_drain(home) is None:
                return False
        raise cannot("remove", path, error) from None
    return True
