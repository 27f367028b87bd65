"""Which processes of this machine listen on a port, by `/proc`.  Must not know whose port it is meant to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_TCP_LISTEN: Final = "0A"
"""As the tables of `/proc/net` write it (proc_pid_net(5))."""


def port_holders(port: int, proc: Path = Path("/proc")) -> Iterator[int]:
    """The numbers of the processes that listen on a TCP port, as far as they can be seen."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text(encoding="ascii", errors="replace").splitlines()[1:]:
                words = line.split()
                if len(words) > 9 and words[3] == _TCP_LISTEN and words[1].rpartition(":")[2] == f"{port:04X}":
                    sockets.add(f"socket:[{words[9]}]")
    if not sockets:
        return
    for entry in (path for path in proc.iterdir() if path.name.isdigit()):
        with suppress(OSError):
            if any(_leads_to(descriptor) in sockets for descriptor in (entry / "fd").iterdir()):
                yield int(entry.name)


def _leads_to(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""
