"""The listening socket that was there before this agent: an earlier one has left it with systemd, or it is a unit's.

So nobody is refused while an agent is started again: who connects meanwhile waits for the next one.  Must not know how
the socket is used.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from tentacle.host.passed_files import PassedFile
from tentacle.transport.stream import format_address

log = logging.getLogger(__name__)

_STORED: Final = "tentacle-port"
"""The beginning of the names under which agents leave their sockets; no unit has such a name."""


def stored_name(host: str | None, port: int) -> str:
    """The name under which an agent with these settings leaves its socket; a colon cannot be in it."""
    return f"{_STORED} {host or 'all'} {port}".replace(":", ".")


def take_port(
    passed: Iterable[PassedFile], host: str | None, port: int | None, forget: Callable[[str], None]
) -> socket.socket | None:
    """The one of the passed sockets that listens where the settings say; the others are closed.

    One that an agent has left counts when it was for the same settings, and `forget` is called with the name of each
    other; one of a socket unit when it has the port, at whichever address.  A `port` of `None` is none at all.
    """
    found: socket.socket | None = None
    for file in passed:
        left = file.name.startswith(_STORED)
        wanted = port is not None and (not left or file.name == stored_name(host, port))
        listening = _listening(file.descriptor) if wanted and found is None else None
        if listening is not None and (left or listening.getsockname()[1] == port):
            found = listening
            continue
        if listening is not None:
            where = format_address(listening.getsockname())
            log.warning("A socket unit listens at %s, and this instance does not: see its ListenStream=", where)
            listening.close()
        else:
            with suppress(OSError):
                os.close(file.descriptor)
        if left:
            forget(file.name)
    return found


def _listening(descriptor: int) -> socket.socket | None:
    """The socket, if it is one of TCP that accepts connections."""
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:
        return None
    if (
        found.family in (socket.AF_INET, socket.AF_INET6)
        and found.type == socket.SOCK_STREAM
        and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        return found
    found.detach()
    return None
