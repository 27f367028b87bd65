"""Looks after one shim while it has a run, because the script may signal, stop, trace or freeze it.

    running    a shim that was stopped is woken; one that does not even begin is given up
    cancelled  the shim is asked to end its script; it is given up when it does nothing until shortly after the grace,
               or when it takes too long

A shim that carries out a cancel wakes up many times a second, and no other process decides which signals reach it.  So
one that the kernel has not run for some seconds, that is traced, or that does not take SIGTERM carries out nothing, and
nothing that it could answer is needed to know that.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable

from tentacle.scripts.shim.small_files import read_file

LOOK_SECONDS = 5.0
_LONGEST_BEGIN = 4
"""Looks until a shim must have claimed its run."""
CANCEL_LOOK_SECONDS = 1.0
_STILL = 3
"""Looks in a row at a shim that carries out nothing, after which it is not expected to do so any more."""
_LONGEST_KILL = 35.0
"""Seconds after the grace; the shim itself kills for 30."""
_STATE = re.compile(rb"^State:\s+(\S)", re.MULTILINE)
_FIELD = re.compile(rb"^(TracerPid|SigBlk|SigIgn|SigCgt):\s+(\S+)$", re.MULTILINE)
_SIGTERM_BIT = 1 << signal.SIGTERM - 1
_SWITCHES = re.compile(rb"^(?:non)?voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)


Send = Callable[[signal.Signals], None]


class ShimGuard:
    """The guard of one run's shim, until `close`.  Use from one event loop."""

    def __init__(
        self, pid: int, send: Send, *, grace: float, has_begun: Callable[[], bool], give_up: Callable[[], None]
    ) -> None:
        """`send` sends the shim a signal; `grace` is in seconds.  `give_up` is called once at most, when the shim must
        be killed.
        """
        self._pid = pid
        self._send = send
        self._grace = grace
        self._has_begun = has_begun
        self._give_up = give_up
        self._looks = 0
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def cancel(self) -> None:
        """Has the shim end its script."""
        self._timer.cancel()
        self._send(signal.SIGTERM)
        self._send(signal.SIGCONT)
        begun = self._loop.time()
        switches, still = _switches(self._pid), 0

        def look() -> None:
            nonlocal switches, still
            passed, now = self._loop.time() - begun, _switches(self._pid)
            acts = now != switches and takes_sigterm(self._pid)
            switches, still = now, 0 if acts else still + 1
            if passed > self._grace and (still >= _STILL or passed > self._grace + _LONGEST_KILL):
                self._give_up()
                return
            self._send(signal.SIGCONT)
            self._timer = self._loop.call_later(CANCEL_LOOK_SECONDS, look)

        self._timer = self._loop.call_later(CANCEL_LOOK_SECONDS, look)

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if is_stopped(self._pid):
            self._send(signal.SIGCONT)
        self._looks += 1
        if self._looks >= _LONGEST_BEGIN and not self._has_begun():
            self._give_up()
            return
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)


def is_stopped(pid: int) -> bool:
    """Returns whether the process was stopped by a signal."""
    found = _STATE.search(_status(pid))
    return found is not None and found[1] == b"T"


def takes_sigterm(pid: int) -> bool:
    """Returns whether a SIGTERM reaches the handler of the process: no tracer and no mask keeps it away."""
    found = {name: int(value, 16) for name, value in _FIELD.findall(_status(pid))}
    away = found.get(b"SigBlk", 0) | found.get(b"SigIgn", 0)
    caught = found.get(b"SigCgt", 0) & ~away & _SIGTERM_BIT
    return caught != 0 and found.get(b"TracerPid", 0) == 0


def _switches(pid: int) -> int:
    """Returns how often the kernel has run the process."""
    return sum(map(int, _SWITCHES.findall(_status(pid))))


def _status(pid: int) -> bytes:
    return read_file(f"/proc/{pid}/status")
