"""Which program has a TCP port of this machine, by `/proc`; as far as this user may see.

Linux only; reads and never opens a socket.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LISTENING: Final = "0A"
"""TCP_LISTEN in the tables of `/proc/net` (proc_pid_net(5))."""


def port_owner(port: int, proc: Path = Path("/proc")) -> str | None:
    """`name (process N)` of whoever listens on `port`; `None` when nobody does or it cannot be seen."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port, proc)}
    if not inodes:
        return None
    for entry in _processes(proc):
        with contextlib.suppress(OSError):
            for descriptor in (entry / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in inodes:
                        return f"{(entry / 'comm').read_text(errors='replace').strip()} (process {entry.name})"
    return None


def _listening_inodes(port: int, proc: Path) -> Iterator[str]:
    wanted = f"{port:04X}"
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (proc / "net" / table).read_text(encoding="ascii", errors="replace").splitlines()[1:]:
                words = line.split()
                if len(words) > 9 and words[3] == _LISTENING and words[1].rpartition(":")[2] == wanted:
                    yield words[9]


def _processes(proc: Path) -> Iterator[Path]:
    yield from (entry for entry in proc.iterdir() if entry.name.isdigit())
