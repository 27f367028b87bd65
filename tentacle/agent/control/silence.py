"""Why an agent does not answer: it is stopped, it hangs, or it is busy and may still answer.

Knows `/proc`.  Must not know what was asked.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from tentacle.agent.control.protocol import ControlError

STOPPED_SECONDS: Final = 0.5
"""After so many seconds a process that is stopped is told."""
IDLE_SECONDS: Final = 2.5
"""After so many seconds one that has done nothing in that time is told: a busy machine lets it do a little."""
_STOPPED: Final = "Tt"
_RUNNING: Final = "R"


class _Activity(NamedTuple):
    """The state letter of a process, and its processor time in ticks (proc_pid_stat(5))."""

    state: str
    ticks: int


def await_answer(connection: socket.socket, pid: int, seconds: float) -> None:
    """Returns when there is something to read.  Raises `ControlError` when it is clear that `pid` will not answer.

    Whatever is seen, it is given up after `seconds`; `pid` of 0 is a process that cannot be seen from here.
    """
    begin, before = time.monotonic(), _look(pid)
    who = f"The agent (process {pid})" if pid else "The agent"
    for until in (*(one for one in (STOPPED_SECONDS, IDLE_SECONDS) if one < seconds), seconds):
        if _readable(connection, max(until - (time.monotonic() - begin), 0.0)):
            return
        now = _look(pid)
        if now is not None and now.state in _STOPPED:
            text = f"{who} does not answer: it is stopped, by SIGSTOP or a debugger."
            raise ControlError("silent", text, hint=f"To let it go on: kill -CONT {pid}")
        if until == IDLE_SECONDS and now is not None and now.state != _RUNNING and now.ticks == (before or now).ticks:
            text = f"{who} has not answered within {time.monotonic() - begin:.1f} seconds and does nothing: it hangs."
            raise ControlError("silent", text, hint=_restart(pid))
    text = f"{who} has not answered within {seconds:g} seconds: it hangs, or this machine is very busy."
    raise ControlError("silent", text, hint=f"It may still do it when it goes on.  If it does not: {_restart(pid)}")


def _restart(pid: int) -> str:
    kill = f" (kill -KILL {pid} ends one that does not end by itself)" if pid else ""
    return f"Restart it{kill}; scripts that run go on meanwhile."


def _readable(connection: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _look(pid: int) -> _Activity | None:
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return _Activity(fields[0], int(fields[11]) + int(fields[12]))
    return None
