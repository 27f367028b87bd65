"""Before an agent begins: what it needs in its home, and a script has spoilt, is put right where that can be done.

A script of the agent's user can put anything in place of the agent's files, and one of root can close them to all
changes.  What cannot be put right is told by the part of the agent that misses it, and the agent goes on without it.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from tentacle import disk
from tentacle.errors import TentacleError, one_line
from tentacle.home_layout import (
    AUDIT_FILE,
    CONTROL_SOCKET,
    DRAIN_FILE,
    HEARTBEAT_FILE,
    INBOX,
    LOCK_FILE,
    LOGS,
    MASK_KEY,
    POLLED_CALLS,
    RUNS,
    SPOOL,
    STATUS_FILE,
    UPLOADS,
    WORK,
)
from tentacle.scripts import history
from tentacle.scripts.shim.file_flags import free_path
from tentacle.scripts.workspace import boots, finished
from tentacle.transport.errors import TransportError
from tentacle.transport.spool import Spool

log = logging.getLogger(__name__)

_RUNS: Final = f"{WORK}/{RUNS}"
_KINDS: Final = {
    LOGS: stat.S_IFDIR,
    WORK: stat.S_IFDIR,
    LOCK_FILE: stat.S_IFREG,
    HEARTBEAT_FILE: stat.S_IFREG,
    STATUS_FILE: stat.S_IFREG,
    CONTROL_SOCKET: stat.S_IFSOCK,
    # Whatever is there counts (docs/spec/control.md, "Draining").
    DRAIN_FILE: None,
    f"{WORK}/{MASK_KEY}": None,
    f"{WORK}/{SPOOL}": None,
    f"{LOGS}/{AUDIT_FILE}": stat.S_IFREG,
    f"{WORK}/{UPLOADS}": stat.S_IFDIR,
    f"{WORK}/{INBOX}": stat.S_IFDIR,
    f"{WORK}/{POLLED_CALLS}": stat.S_IFDIR,
    _RUNS: None,
    f"{_RUNS}/{finished.FILE}": stat.S_IFREG,
    f"{_RUNS}/{history.FILE}": stat.S_IFREG,
    f"{_RUNS}/{boots.FILE}": stat.S_IFREG,
}
"""What belongs in each place; `None` where another module sees to that."""


def foreign_place(home: Path, user: str) -> str | None:
    """What speaks against an agent of root in a home with a directory of another user; `None` for nothing.

    `user` is the name of the agent's user.
    """
    for path in (home, home / WORK) if user == disk.user_name(0) else ():
        with suppress(OSError):
            owner = path.stat().st_uid
            if owner != 0:
                name = disk.user_name(owner)
                return f"the agent runs as root, but '{path}' belongs to {name}, who can replace what is there"
    return None


def put_right(home: Path) -> None:
    """For the only agent of `home`, which exists.  Raises nothing."""
    if said := foreign_place(home, disk.user_name(os.geteuid())):
        log.warning("%s: run the agent as that user, or give the directory to root", said)
    free_path(home)
    for name, kind in _KINDS.items():
        path = home / name
        free_path(path)
        with suppress(OSError):
            found = path.lstat()
            is_ours = os.geteuid() in (0, found.st_uid)
            # Directories may lie on another disk, behind a link, which may be not mounted.
            if kind is None or not is_ours or stat.S_ISLNK(found.st_mode) or stat.S_IFMT(found.st_mode) == kind:
                continue
            log.warning("'%s' was of the wrong kind; what was there is now called '%s'", path, disk.move_aside(path))
    with suppress(TentacleError):
        disk.make_directories(home / LOGS, mode=0o750)


def make_spool(spool: Spool, place: Path, move_to_trash: Callable[[Path], object]) -> None:
    """Makes an empty spool: beside its `place` when a script has left there what cannot be moved to the trash, an
    immutable file say, or a mount, or a link, which must not lead to the removal of what it leads to.
    """
    with suppress(OSError):
        if not place.is_symlink() and not (place.is_dir() and next(place.iterdir(), None) is None):
            move_to_trash(place)
    try:
        spool.create()
    except TransportError as error:
        beside = place.with_name(f"{SPOOL}-{secrets.token_hex(4)}")
        log.warning("%s; until the next start they go to %s", one_line(error), beside)
        spool.move(beside)
        try:
            spool.create()
        except TransportError as worse:
            log.error("No files can be taken in: %s", one_line(worse))
