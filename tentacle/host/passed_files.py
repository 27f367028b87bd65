"""Open files that systemd has passed to this process: sockets of a socket unit, and what an earlier agent has stored.

Knows the protocol (sd_listen_fds(3)).  Must not know what the files are for.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Final, NamedTuple

COUNT, PROCESS, NAMES = "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"
_FIRST: Final = 3
_MOST: Final = 1000


class PassedFile(NamedTuple):
    """An open file and the name that it has in the unit, or was stored with; empty where it has none."""

    descriptor: int
    name: str


def take_passed_files(environ: MutableMapping[str, str], pid: int | None = None) -> tuple[PassedFile, ...]:
    """The files that were passed to the process `pid`, which is this one when `None`; no child inherits them.

    The variables are removed, so that no script takes them for its own.
    """
    count, process, names = (environ.pop(name, "") for name in (COUNT, PROCESS, NAMES))
    if process != str(os.getpid() if pid is None else pid) or not (count.isascii() and count.isdigit()):
        return ()
    named = names.split(":") if names else []
    found = []
    for number in range(min(int(count), _MOST)):
        try:
            os.set_inheritable(_FIRST + number, False)
        except OSError:
            continue
        found.append(PassedFile(_FIRST + number, named[number] if number < len(named) else ""))
    return tuple(found)
