"""Accepts connections, quickly and whatever happens to one of them, also while no file can be opened any more.

Must not know what the connections are for.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that wait in the system to be accepted; the system allows fewer where it is set so."""
TELL_EVERY = 60.0
"""Seconds between two lines of the log that say the same of many connections."""
_MOST_AT_ONCE = 32
_PAUSE = 0.2
_FULL = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_NOBODY = frozenset((errno.EAGAIN, errno.EINTR))

Accepted = Callable[[socket.socket, object], None]
"""Takes over a connection, given the address of its peer."""


class Doorway:
    """Accepts on the listening `sock` from `open` to `close`.

    `make_room` ends a connection that can be spared, so that the next one can be accepted; false when there is none.
    Then the others wait in the system for a moment.  After `at_once` connections others get a turn, so that calls go on
    while thousands knock.
    """

    def __init__(self, sock: socket.socket, accepted: Accepted, make_room: Callable[[], bool], at_once: int) -> None:
        self._socket = sock
        self._accepted = accepted
        self._make_room = make_room
        self._at_once = max(1, min(at_once, _MOST_AT_ONCE))
        self._pause: asyncio.TimerHandle | None = None
        self._told = -TELL_EVERY

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._resume()

    def close(self) -> None:
        """Stops accepting, and closes the socket.  May be repeated."""
        if self._socket.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._on_readable)

    def _on_readable(self) -> None:
        for number in range(self._at_once):
            try:
                connection, address = self._socket.accept()
            except OSError as error:
                if error.errno in _NOBODY:
                    return
                if error.errno in _FULL:
                    # The system says so even when nobody waits; that somebody did is known of the first only.
                    if not number:
                        self._on_full(error)
                    return
                # A failure of that one connection; the system tells it here.
                continue
            connection.setblocking(False)
            self._accepted(connection, address)

    def _on_full(self, error: OSError) -> None:
        now = self._loop.time()
        if now > self._told + TELL_EVERY:
            log.warning("A connection cannot be accepted: %s", error.strerror)
            self._told = now
        # What is dropped is closed in the loop's next turn, and this is tried again then.
        if not self._make_room():
            self._loop.remove_reader(self._socket)
            self._pause = self._loop.call_later(_PAUSE, self._resume)
