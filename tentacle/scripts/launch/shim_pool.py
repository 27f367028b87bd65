"""The shims of one agent: forked when needed, used again while they are clean.

    launched -> busy -> free -> busy -> ... -> ended by the agent
                  |
                  +---> gone      ended by itself, because its run left something behind, or was killed

A fresh process costs more than everything else that is done for a short script.  So a shim is kept for a moment and
given another run if its script has ended without a cancel and has left no process behind.  A shim whose script had a
user of its own is never used again.  Agent and shim share a socket pair: the shim reports there that it is free, and
when it ends its side is closed.  When the agent's side is closed, a shim finishes its run and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable

from tentacle.scripts.launch.fork_server_client import ConnectionLostError, ForkServerClient, send_order
from tentacle.scripts.launch.other_process import OtherProcess
from tentacle.scripts.shim.fork_messages import AGAIN
from tentacle.scripts.shim.run_order import RunOrder

_MOST_IDLE = 32
_IDLE = 10.0
"""Seconds after which an idle shim is ended."""
_MOST_RUNS = 200


class Shim:
    """One shim, from the agent's side.  `finished` is set while it has no run."""

    def __init__(self, connection: socket.socket, pid: int, give_back: Callable[[Shim], None] | None) -> None:
        """`give_back` is called when it can be used again; without it, it serves one run only."""
        self.pid = pid
        self.finished = asyncio.Event()
        self.runs = 1
        self._free = False
        self._connection: socket.socket | None = connection
        self._give_back = give_back
        self._loop = asyncio.get_running_loop()
        self._process = OtherProcess.open(pid)
        self._loop.add_reader(connection, self._on_readable)

    def run_again(self, order: RunOrder) -> bool:
        """Gives the shim one more run; returns false when it is gone and has not taken the run."""
        if self._connection is None or not self._free:
            return False
        self.finished.clear()
        self._free = False
        self.runs += 1
        # An earlier script may have stopped it.
        self.send(signal.SIGCONT)
        try:
            send_order(self._connection, AGAIN, order)
        except ConnectionLostError:
            self._disconnect()
            return False
        return True

    def send(self, number: signal.Signals) -> None:
        """Sends the signal to the shim.  What is sent after its end is lost."""
        # Without its end of the connection the process may have gone, and its number belong to another one.
        if self._process is not None and (self._process.is_safe or self._connection is not None):
            self._process.send(number)

    def release(self, *, clean: bool) -> None:
        """Gives the shim back.  It is used again if it is `clean` and free; otherwise it ends after its run."""
        if clean and self._free and self._give_back is not None:
            self._give_back(self)
        else:
            self.close()

    def close(self) -> None:
        """Closes the connection; a script that the shim watches continues."""
        self._disconnect()
        if self._process is not None:
            self._process.close()
            self._process = None

    def _disconnect(self) -> None:
        self._free = False
        if self._connection is not None:
            self._loop.remove_reader(self._connection)
            self._connection.close()
            self._connection = None
        self.finished.set()

    def _on_readable(self) -> None:
        if self._connection is None:
            return
        try:
            self._free = bool(self._connection.recv(16))
        except BlockingIOError:
            return
        except OSError:
            self._free = False
        if self._free:
            self.finished.set()
        else:
            self._disconnect()


class ShimPool:
    """All shims of one agent.  Use from one event loop."""

    def __init__(self, fork_server: ForkServerClient, idle_seconds: float = _IDLE) -> None:
        self._fork_server = fork_server
        self._idle_seconds = idle_seconds
        self._idle: dict[Shim, asyncio.TimerHandle] = {}

    async def launch(self, order: RunOrder, cgroup: str = "", *, fresh: bool = False) -> Shim:
        """Returns a shim that carries out the order.  Raises `LaunchError`.

        It may be an idle one, unless `fresh`.  A new one is born in the cgroup with the path `cgroup`, unless that is
        empty or the kernel cannot do it.
        """
        alone = order.uid is not None
        while self._idle and not fresh and not alone:
            shim, timer = self._idle.popitem()
            timer.cancel()
            if shim.run_again(order):
                return shim
            shim.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            ours.setblocking(False)
            with theirs:
                pid = await self._fork_server.launch(order, theirs, cgroup)
            shim = Shim(ours, pid, None if alone else self._take_back)
            undo.pop_all()
        return shim

    def close(self) -> None:
        """Ends all idle shims."""
        while self._idle:
            shim, timer = self._idle.popitem()
            timer.cancel()
            shim.close()

    def _take_back(self, shim: Shim) -> None:
        if shim.runs >= _MOST_RUNS or len(self._idle) >= _MOST_IDLE:
            shim.close()
            return
        loop = asyncio.get_running_loop()
        self._idle[shim] = loop.call_later(self._idle_seconds, self._retire, shim)

    def _retire(self, shim: Shim) -> None:
        if self._idle.pop(shim, None) is not None:
            shim.close()
