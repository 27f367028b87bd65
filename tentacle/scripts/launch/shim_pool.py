"""The processes that watch over runs, as the agent sees them: forked when needed, used again while they are clean.

    launched -> busy -> free -> busy -> ... -> let go
                  |
                  +---> gone      ended by itself: it had something to clear up, or somebody has ended it

A fresh process costs more than all else that is done for a short script.  So one whose script has ended of its own
accord, and has left nobody behind, is kept for a moment and asked again.  It is asked over a socket pair, on which it
says that it is free; its end on that socket is its end.  When the agent's end is closed it finishes what it has begun,
as it would for an agent that has died, and goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable

from tentacle.scripts.launch.fork_server_client import Launcher, LineGoneError, hand_over
from tentacle.scripts.shim.fork_server import AGAIN

_MOST_IDLE = 32
_IDLE = 10.0
"""Seconds after which one that has nothing to do is let go."""
_MOST_RUNS = 200


class Watcher:
    """One such process; `over` is set when it does not watch over the run any more that it was given last."""

    def __init__(self, line: socket.socket, pid: int, give_back: Callable[[Watcher], None]) -> None:
        self.pid = pid
        self.over = asyncio.Event()
        self.runs = 1
        self._free = False
        self._line: socket.socket | None = line
        self._give_back = give_back
        self._loop = asyncio.get_running_loop()
        try:
            self._process: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._process = None
        self._loop.add_reader(line, self._on_readable)

    def ask(self, document: bytes) -> bool:
        """Gives it one more run; false when it has gone and the run is nobody's."""
        if self._line is None or not self._free:
            return False
        self.over.clear()
        self._free = False
        self.runs += 1
        try:
            hand_over(self._line, AGAIN, document)
        except LineGoneError:
            self._hang_up()
            return False
        return True

    def terminate(self) -> None:
        """Asks it to end its script."""
        if self._process is not None:
            terminate(self._process)

    def let_go(self, *, clean: bool) -> None:
        """Nobody waits for it any more.  It is used again if it is `clean` and free, and else will end."""
        if clean and self._free:
            self._give_back(self)
        else:
            self.close()

    def close(self) -> None:
        """Forgets it; a script that it watches over runs on."""
        self._hang_up()
        if self._process is not None:
            os.close(self._process)
            self._process = None

    def _hang_up(self) -> None:
        self._free = False
        if self._line is not None:
            self._loop.remove_reader(self._line)
            self._line.close()
            self._line = None
        self.over.set()

    def _on_readable(self) -> None:
        if self._line is None:
            return
        try:
            self._free = bool(self._line.recv(16))
        except BlockingIOError:
            return
        except OSError:
            self._free = False
        if self._free:
            self.over.set()
        else:
            self._hang_up()


def terminate(process: int) -> None:
    """Asks the process of that descriptor to end."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGTERM)


class Watchers:
    """All of one agent.  Use from one event loop."""

    def __init__(self, launcher: Launcher, idle_seconds: float = _IDLE) -> None:
        self._launcher = launcher
        self._idle_seconds = idle_seconds
        self._idle: dict[Watcher, asyncio.TimerHandle] = {}

    async def launch(self, document: bytes, cgroup: str = "", *, fresh: bool = False) -> Watcher:
        """One that runs what `document` says.  Raises `LaunchError`.

        A new one, as which it comes for sure when it has to be `fresh`, is born in the `cgroup` of that path, if there
        is one and the kernel can do it.
        """
        while self._idle and not fresh:
            watcher, timer = self._idle.popitem()
            timer.cancel()
            if watcher.ask(document):
                return watcher
            watcher.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            ours.setblocking(False)
            with theirs:
                pid = await self._launcher.launch(document, theirs, cgroup)
            watcher = Watcher(ours, pid, self._take_back)
            undo.pop_all()
        return watcher

    def close(self) -> None:
        """Lets all go that have nothing to do."""
        while self._idle:
            watcher, timer = self._idle.popitem()
            timer.cancel()
            watcher.close()

    def _take_back(self, watcher: Watcher) -> None:
        if watcher.runs >= _MOST_RUNS or len(self._idle) >= _MOST_IDLE:
            watcher.close()
            return
        loop = asyncio.get_running_loop()
        self._idle[watcher] = loop.call_later(self._idle_seconds, self._retire, watcher)

    def _retire(self, watcher: Watcher) -> None:
        if self._idle.pop(watcher, None) is not None:
            watcher.close()
