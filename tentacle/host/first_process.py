"""The first process of a container, which has duties that no other process has.

The kernel gives it every orphan, which it must reap; it ignores each signal that the first process has not asked for;
and when the first process ends, it kills all others.  So a small process stays behind that does only this, and the
program goes on in its child.  Knows processes and signals; must not know what is run.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Final

LAST_SECONDS: Final = 10.0
"""For how long those that are left may take to end, once the program has ended."""
_NOT_TO_PASS_ON: Final = {signal.SIGCHLD, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_watched = False


def is_watched() -> bool:
    """Whether the end of this process is the end of all others in its container."""
    return _watched


def continue_in_child() -> None:
    """Returns in a child of the calling process, which itself stays and ends with the child's exit code.

    Call it before there are threads.
    """
    global _watched  # noqa: PLW0603
    heard = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    program = os.fork()
    if program:
        os._exit(_serve(program, heard))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _watched = True


def _serve(program: int, heard: set[signal.Signals]) -> int:
    """Reaps, and passes signals on, until `program` has ended; returns its exit code when nothing else is left."""
    code = None
    while code is None:
        got = signal.sigwaitinfo(heard)
        if got.si_signo == signal.SIGCHLD:
            code = _reap().get(program)
        # A terminal has sent its own to the program too.
        elif got.si_code <= 0 and got.si_signo not in _NOT_TO_PASS_ON:
            os.kill(program, got.si_signo)
    _end_others(heard)
    return code


def _reap() -> dict[int, int]:
    """Returns the exit codes, as a shell shows them, of all that have ended, by process number."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        code = os.waitstatus_to_exitcode(status)
        ended[pid] = code if code >= 0 else 128 - code


def _end_others(heard: set[signal.Signals]) -> None:
    """Asks what is left to end, and waits for it: the kernel kills it as soon as this process ends."""
    give_up = time.monotonic() + LAST_SECONDS
    try:
        os.kill(-1, signal.SIGTERM)
        while (left := give_up - time.monotonic()) > 0:
            got = signal.sigtimedwait(heard, left)
            if got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                return
            _reap()
            os.kill(-1, 0)
    except ProcessLookupError:
        return
