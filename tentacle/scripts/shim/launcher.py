"""The fork server as a service of its own, which agents reach through a socket with a name.

An agent that is confined hands its confinement on to everything that it starts.  So what starts its scripts is no child
of it: systemd starts this process, with the ordinary rights of the account, when the agent connects for the first time.
The conversation is that of `fork_server.py`.  Whoever may connect can run programs as this account, so only a process
of the same account may, or of root, and no script: those have no reason to.

It ends at any time without harm: agents connect again, shims live on.  It does so itself when a script has changed what
its children inherit.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections.abc import Mapping
from typing import NoReturn

from tentacle.scripts.shim.fork_server import become_fork_server, serve
from tentacle.scripts.shim.inherited import InheritedState, process_state
from tentacle.scripts.shim.run_cgroup import LEAF
from tentacle.scripts.shim.small_files import read_file

_PEER = struct.Struct("iII")
"""Process, user and group, as SO_PEERCRED gives them (unix(7))."""
_MOST_AGENTS = 16
"""One is usual, and a second one for a moment."""


def main(descriptor: int, *, apart: bool) -> NoReturn:
    """Serves all who connect to the listening socket `descriptor`, until it is killed.

    With `apart` this process has a cgroup of its own, which all its scripts are in and no agent is.
    """
    os.set_inheritable(descriptor, False)
    intact = become_fork_server("tentacle-launch")
    with socket.socket(fileno=descriptor) as door, contextlib.suppress(OSError):
        Launcher(door, intact, own_cgroups() if apart else {}).run()
    # Whoever has started this process starts it again.
    os._exit(1)


class Launcher:
    """Everyone who is connected.  `cgroups` are where no agent is."""

    def __init__(self, door: socket.socket, intact: InheritedState, cgroups: Mapping[bytes, bytes]) -> None:
        self._door = door
        self._intact = intact
        self._cgroups = cgroups
        self._agents: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._watchdog = _Watchdog(os.environ)

    def run(self) -> None:
        """Returns when a script has spoilt this process.  Raises `OSError` for the same reason."""
        self._door.setblocking(False)
        self._poll.register(self._door.fileno(), select.EPOLLIN)
        while True:
            self._watchdog.feed()
            for descriptor, _ in self._poll.poll(self._watchdog.pause):
                if descriptor == self._door.fileno():
                    self._admit()
                elif not serve(self._agents[descriptor], self._intact, self._let_go):
                    self._agents.pop(descriptor).close()
                    if process_state() != self._intact:
                        return

    def _admit(self) -> None:
        try:
            agent, _ = self._door.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        if len(self._agents) >= _MOST_AGENTS or not may_ask(agent, self._cgroups):
            agent.close()
            return
        self._agents[agent.fileno()] = agent
        self._poll.register(agent.fileno(), select.EPOLLIN)

    def _let_go(self) -> None:
        self._poll.close()
        self._door.close()
        for agent in self._agents.values():
            agent.close()


def may_ask(agent: socket.socket, cgroups: Mapping[bytes, bytes]) -> bool:
    """Whether the process at the other end is of this account, or root's, and outside all `cgroups`."""
    pid, uid, _ = _PEER.unpack(agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    if uid not in (0, os.geteuid()):
        return False
    theirs = cgroups_of(read_file(f"/proc/{pid}/cgroup"))
    return all(own in theirs and not (theirs[own] + b"/").startswith(path + b"/") for own, path in cgroups.items())


def own_cgroups() -> dict[bytes, bytes]:
    """The cgroups of this process's unit, by hierarchy; none where everything is in the topmost one."""
    found = cgroups_of(read_file("/proc/self/cgroup")).items()
    return {name: path.removesuffix(f"/{LEAF}".encode()) for name, path in found if path != b"/"}


def cgroups_of(text: bytes) -> dict[bytes, bytes]:
    """The cgroups by which systemd knows a process, from `/proc/PID/cgroup`: of version 2 (`b""`), or of its own."""
    found = {}
    for line in text.splitlines():
        _, _, rest = line.partition(b":")
        name, _, path = rest.partition(b":")
        if name in (b"", b"name=systemd") and path:
            found[name] = path
    return found


class _Watchdog:
    """Life signs for systemd (sd_watchdog_enabled(3)), from the loop that does the work."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address, period = environ.get("NOTIFY_SOCKET", ""), environ.get("WATCHDOG_USEC", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.pause = int(period) / 2e6 if self._address and period.isdigit() else None

    def feed(self) -> None:
        if self.pause is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            manager.sendto(b"WATCHDOG=1", self._address)
