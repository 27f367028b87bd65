"""What an agent tells the service manager that started it: ready, status, alive, stopping (sd_notify(3)).

Knows one datagram socket.  Must not know what an agent is.  Without a manager nothing happens; a message that cannot
be delivered is dropped, because an agent works whether or not it is watched.
"""

from __future__ import annotations

import array
import asyncio
import os
import re
import socket
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Final

SOCKET, WATCHDOG_MICROSECONDS, WATCHDOG_PROCESS = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
LOOK_SECONDS: Final = 10.0
"""How often the status is looked at, or more often as a watchdog wants it."""
_LONGEST_STATUS: Final = 200


class Notifier:
    """Sends to `address`: a path, or `@` and an abstract name; when it is empty, nothing is sent.

    `watchdog` is the time in seconds after which the manager gives up on a silent agent; `None` when it never does.
    """

    def __init__(self, address: str, watchdog: float | None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = watchdog

    @classmethod
    def take_from(cls, environ: MutableMapping[str, str], pid: int | None = None) -> Notifier:
        """A notifier as the environment says; its variables are removed, so that no script speaks for the agent.

        The watchdog counts only when it is meant for the process `pid`, which is this one when `None`.
        """
        address, period, process = (environ.pop(n, "") for n in (SOCKET, WATCHDOG_MICROSECONDS, WATCHDOG_PROCESS))
        watchdog = None
        if process in ("", str(os.getpid() if pid is None else pid)) and re.fullmatch("[0-9]{1,18}", period):
            watchdog = int(period) / 1e6 or None
        return cls(address if address[:1] in ("/", "@") else "", watchdog)

    def ready(self, status: str) -> None:
        """The agent has started."""
        self._send("READY=1", _status(status))

    def stopping(self, status: str, seconds: float) -> None:
        """The agent ends, which may take `seconds` from now, whatever the unit's own limit is."""
        self._send("STOPPING=1", _status(status), f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def store(self, name: str, descriptor: int) -> None:
        """Gives the manager an open file to keep for the next agent, under that name (sd_pid_notify_with_fds(3)).

        It keeps it over a restart, and as long as the unit allows it (`FileDescriptorStoreMax=`).
        """
        self._send("FDSTORE=1", f"FDNAME={name}", descriptors=(descriptor,))

    def forget(self, name: str) -> None:
        """Has the manager close what is stored under that name."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    async def keep_reporting(self, status: Callable[[], str]) -> None:
        """Runs until it is cancelled: reports a life sign twice per watchdog time, and the status when it changes."""
        pause = min(LOOK_SECONDS, self.watchdog / 2) if self.watchdog else LOOK_SECONDS
        reported = ""
        while self._address:
            now = status()
            self._send(*(["WATCHDOG=1"] if self.watchdog else []), *([_status(now)] if now != reported else []))
            reported = now
            await asyncio.sleep(pause)

    def _send(self, *lines: str, descriptors: Sequence[int] = ()) -> None:
        if not self._address or not lines:
            return
        # An address that is too long raises OSError, too.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            # Not `send_fds`, which forgets the address.
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            sock.sendmsg(["\n".join(lines).encode(errors="replace")], rights, 0, self._address)


def _status(text: str) -> str:
    """A status line.  A line break in `text` cannot begin a line with another meaning."""
    return "STATUS=" + "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_STATUS]
