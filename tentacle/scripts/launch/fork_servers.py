"""The two kinds of fork server: one that belongs to this agent, and one that is a service of its own.

Knows how a connection is made.  Must not know what is said on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tentacle.errors import EXIT_USER_ERROR
from tentacle.open_files import restore_limit
from tentacle.scripts.errors import LaunchError
from tentacle.scripts.launch.other_process import OtherProcess

_LACKS = frozenset((errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM))
_ROOT = Path(__file__).resolve().parents[3]
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[2]); "
    "from tentacle.scripts.shim.fork_server import main; main(int(sys.argv[1]))"
)
_LAUNCHER = (
    "import sys; sys.path.append(sys.argv[2]); "
    "from tentacle.scripts.shim.launcher import main; main(int(sys.argv[1]), apart=sys.argv[3] == 'apart')"
)


class ForkServer(Protocol):
    """What a client knows of the process at the other end."""

    is_own: bool
    """Whether it belongs to this agent, and is a child of it."""

    @property
    def pid(self) -> int | None:
        """Its process number; `None` when there is none, or it has not said it yet."""

    def connect(self) -> socket.socket:
        """Returns a new connection that does not block.  Raises `LaunchError`."""

    def belongs_to(self, pid: int) -> None:
        """The process at the other end has said that this is its number."""

    def wake(self) -> None:
        """Lets it run again; a script may have stopped it."""

    def useless(self) -> LaunchError:
        """The error when it does not answer."""

    async def end(self) -> None:
        """Waits until nothing of it is left that is ours; may be cancelled and repeated."""


class OwnForkServer:
    """A child of this process: `python` in `environment`, by default the agent's own."""

    is_own = True

    def __init__(self, python: str = sys.executable, environment: Mapping[str, str] | None = None) -> None:
        self._python = python
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def connect(self) -> socket.socket:
        """Starts one, which ends when the connection is closed."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise self._not_started(error) from error
        with theirs:
            ours.setblocking(False)
            try:
                self._process = subprocess.Popen(
                    _command(self._python, _PROGRAM, theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    cwd="/",
                    env=self._environment,
                )
            except OSError as error:
                ours.close()
                raise self._not_started(error) from error
        restore_limit(self._process.pid)
        return ours

    def belongs_to(self, pid: int) -> None:
        """Nothing new."""

    def wake(self) -> None:
        if self._process is not None:
            # Not `send_signal`, which looks whether the process has ended: nobody but this object reaps it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._process.pid, signal.SIGCONT)

    def useless(self) -> LaunchError:
        return LaunchError("The process that starts scripts ends as soon as it is started", hint=self._by_hand())

    async def end(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(_wait_or_kill, self._process)
            self._process = None

    def _not_started(self, error: OSError) -> LaunchError:
        what, hint = "The process that starts scripts could not be started", self._by_hand()
        if error.errno in _LACKS:
            hint = "Look at the limits on open files, tasks and memory of the agent's service."
        if error.filename == os.devnull:
            hint = f"Mount /dev, or make the device: mknod -m 666 {os.devnull} c 1 3"
        which = error.filename or self._python
        return LaunchError(f"{what}: {error.strerror} ({which})", hint=hint, exit_code=EXIT_USER_ERROR)

    def _by_hand(self) -> str:
        return f"Run '{self._python} -I -S -c pass' by hand and see what is wrong with it."


class LauncherService:
    """A service that listens on the socket `path`, and that its manager starts and starts again."""

    is_own = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pid: int | None = None
        self._process: OtherProcess | None = None

    @property
    def pid(self) -> int | None:
        return self._pid

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.setblocking(False)
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise self._unreachable(error.strerror or str(error)) from error
        return connection

    def belongs_to(self, pid: int) -> None:
        self._forget()
        self._pid, self._process = pid, OtherProcess.open(pid)

    def wake(self) -> None:
        if self._process is not None and self._process.is_safe:
            self._process.send(signal.SIGCONT)

    def useless(self) -> LaunchError:
        return self._unreachable("it does not answer")

    async def end(self) -> None:
        self._forget()

    def _forget(self) -> None:
        if self._process is not None:
            self._process.close()
        self._pid = self._process = None

    def _unreachable(self, reason: str) -> LaunchError:
        return LaunchError(
            f"The service that starts scripts cannot be reached at '{self._path}': {reason}",
            hint="See what systemd says of it: 'systemctl status', with the name of this service and '@scripts'.",
            exit_code=EXIT_USER_ERROR,
        )


def launcher_command(descriptor: int, *, apart: bool) -> list[str]:
    """The command line of a launcher that listens on that socket, which it must inherit; `apart` as it has it."""
    return [*_command(sys.executable, _LAUNCHER, descriptor), "apart" if apart else "together"]


def _command(python: str, program: str, descriptor: int) -> list[str]:
    return [python, "-I", "-S", "-X", "utf8", "-c", program, str(descriptor), str(_ROOT)]


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
