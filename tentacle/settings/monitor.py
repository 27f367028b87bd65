"""Where an agent can be watched: a loopback address or a Unix socket, its texts and what is refused.

Whoever can connect there sees tickets and servers, so nothing that other machines reach is taken.  Must not know what
is served.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final

from tentacle.records import dataclass
from tentacle.settings.errors import SettingsError
from tentacle.settings.ports import LARGEST_PORT
from tentacle.settings.scripts import NO_LIMIT, Syntax

EXAMPLE: Final = "127.0.0.1:9113, [::1]:9113 or unix:/run/tentacle-monitor/monitor.sock, or none"
_UNIX: Final = "unix:"
LONGEST_SOCKET: Final = 107
"""Bytes of a path that the kernel takes as the address of a socket (unix(7)), without the zero behind it."""


@dataclass(frozen=True)
class MonitorAddress:
    """`host`, a loopback address, and `port` (0: the system chooses); or `path`, that of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"{_UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _parse(text: str) -> MonitorAddress | None:
    if text.lower() == NO_LIMIT:
        return None
    if text.lower().startswith(_UNIX):
        return _unix(text[len(_UNIX) :])
    found = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]{1,5})", text, re.ASCII)
    if found is None or int(found[3]) > LARGEST_PORT:
        raise SettingsError(f"must be {EXAMPLE}, not {text[:80]!r}")
    given = found[1] or found[2] or ""
    host = "127.0.0.1" if given.lower() == "localhost" else given
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise SettingsError(f"must be {EXAMPLE}; {given[:80]!r} is not an IP address") from None
    if not address.is_loopback or "%" in host:
        raise SettingsError(
            f"must be a loopback address or a Unix socket, since everybody who reaches it sees what runs here; "
            f"{given[:80]!r} can be reached by other machines"
        )
    return MonitorAddress(str(address), int(found[3]))


def _unix(path: str) -> MonitorAddress:
    plain = "/" + os.path.normpath(path).lstrip("/")
    if not path.startswith("/") or path.endswith("/") or plain == "/" or not path.isprintable():
        raise SettingsError(f"must be {EXAMPLE}; the path of a socket is absolute, and not {path[:80]!r}")
    if len(os.fsencode(plain)) > LONGEST_SOCKET:
        raise SettingsError(f"must be the path of a socket of at most {LONGEST_SOCKET} bytes, not {plain[:40]!r}...")
    return MonitorAddress(path=plain)


MONITOR: Final = Syntax(_parse, str)
