"""A process that is not our child: it is sent signals, and its end is waited for.

By a pidfd, which never means another process.  Where there are none (an old kernel, a filter of system calls) by its
number: then the caller must know by other means that the process is still there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

_LOOK = 0.2
"""Seconds between two looks where the kernel does not tell."""


class OtherProcess:
    """The process `pid`; `descriptor` is its pidfd, if there is one."""

    def __init__(self, pid: int, descriptor: int | None) -> None:
        self._pid = pid
        self._descriptor = descriptor

    @classmethod
    def open(cls, pid: int) -> OtherProcess | None:
        """Returns the process; `None` when it has gone already."""
        try:
            return cls(pid, os.pidfd_open(pid))
        except ProcessLookupError:
            return None
        except OSError:
            return cls(pid, None)

    @property
    def is_safe(self) -> bool:
        """Whether this can never mean another process."""
        return self._descriptor is not None

    def send(self, number: signal.Signals) -> None:
        """Sends the signal.  What is sent after the end is lost, and what another user may not send too."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if not self._send_by_descriptor(number):
                os.kill(self._pid, number)

    def _send_by_descriptor(self, number: signal.Signals) -> bool:
        if self._descriptor is None:
            return False
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            raise
        except OSError:
            # The system call is refused: the open descriptor tells that the process has not been reaped.
            return False
        return True

    async def wait(self, is_there: Callable[[], bool]) -> None:
        """Returns when the process has ended; `is_there` says so where there is no descriptor."""
        if self._descriptor is None:
            while is_there():  # noqa: ASYNC110
                await asyncio.sleep(_LOOK)
            return
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(self._descriptor)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
