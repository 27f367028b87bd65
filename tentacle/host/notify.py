"""What an agent tells the service manager that started it: ready, status, alive, stopping (sd_notify(3)).

Knows one datagram socket.  Must not know what an agent is.  Without a manager that listens, nothing happens; a message
that cannot be delivered is dropped, because an agent works on whether or not somebody watches it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Final

SOCKET, WATCHDOG_MICROSECONDS, WATCHDOG_PROCESS = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
LOOK_SECONDS: Final = 10.0
"""How often the status is looked at when nothing else sets the pace."""
_LONGEST_STATUS: Final = 200
_LONGEST_NUMBER: Final = 18


class Notifier:
    """Speaks to `address` (a path, or `@` and an abstract name; empty: to nobody).

    `watchdog` is the time in seconds after which the manager gives up on a silent agent; `None` when it never does.
    """

    def __init__(self, address: str, watchdog: float | None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = watchdog

    @classmethod
    def taken_from(cls, environ: MutableMapping[str, str], pid: int | None = None) -> Notifier:
        """What the environment says, which is taken out of it: scripts must not speak for the agent.

        `pid` is the process that a watchdog is meant for, ours unless told otherwise.
        """
        address, period, process = (environ.pop(n, "") for n in (SOCKET, WATCHDOG_MICROSECONDS, WATCHDOG_PROCESS))
        meant = not process or process == str(os.getpid() if pid is None else pid)
        return cls(address if address[:1] in ("/", "@") else "", _seconds(period) if meant else None)

    def ready(self, status: str) -> None:
        """The agent has started."""
        self._send("READY=1", _status(status))

    def stopping(self, status: str, seconds: float) -> None:
        """The agent ends, which may take `seconds` from now, whatever the unit's own limit is."""
        self._send("STOPPING=1", _status(status), f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    async def keep_told(self, status: Callable[[], str]) -> None:
        """Says for ever that the agent is alive, at half the watchdog's time, and its status when that changes."""
        pause = min(LOOK_SECONDS, self.watchdog / 2) if self.watchdog else LOOK_SECONDS
        told = ""
        while self._address:
            now = status()
            self._send(*(["WATCHDOG=1"] if self.watchdog else []), *([_status(now)] if now != told else []))
            told = now
            await asyncio.sleep(pause)

    def _send(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        # An address that is too long for a socket is a ValueError's cousin: OSError "AF_UNIX path too long".
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto("\n".join(lines).encode(errors="replace"), self._address)


def _status(text: str) -> str:
    """A status line; whatever the text holds, it cannot become a line of another meaning."""
    return "STATUS=" + "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_STATUS]


def _seconds(microseconds: str) -> float | None:
    if not (microseconds.isascii() and microseconds.isdigit() and len(microseconds) <= _LONGEST_NUMBER):
        return None
    return int(microseconds) / 1e6 or None
