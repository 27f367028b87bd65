"""The agent's side of the fork server: keeps one, asks it for shims, replaces it when it dies.

Asking twice for the same run is harmless: the second shim finds the run claimed and ends.
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
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tentacle import disk
from tentacle.errors import EXIT_USER_ERROR
from tentacle.open_files import restore_limit
from tentacle.scripts.errors import LaunchError
from tentacle.scripts.shim.fork_server import ANSWER, QUESTION
from tentacle.scripts.shim.run_order import RunOrder

_LOOK_SECONDS = 0.5
_LONGEST_ANSWER = 40
"""Looks; a script may have stopped the server at any moment."""
_ATTEMPTS = 3
_LACKS = frozenset((errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM))
_SHARED_MEMORY = "/dev/shm"  # noqa: S108
_ROOT = Path(__file__).resolve().parents[3]
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[2]); "
    "from tentacle.scripts.shim.fork_server import main; main(int(sys.argv[1]))"
)


class ConnectionLostError(Exception):
    """The process at the other end of the socket has died, or does not answer."""


class ForkServerClient:
    """Use from one event loop.  `python` runs the fork server, in `environment`, by default the agent's own."""

    def __init__(self, python: str = sys.executable, environment: Mapping[str, str] | None = None) -> None:
        self._python = python
        self._environment = environment
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The process number of the fork server; `None` when there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Starts the fork server before the first script needs it."""
        async with self._turn:
            self._ensure_server()

    async def launch(self, order: RunOrder, connection: socket.socket, cgroup: str = "") -> int:
        """Starts a shim that carries out the order; returns its process number.  Raises `LaunchError`.

        The shim keeps its end `connection`, over which it can be given further runs.  It is born in the cgroup with the
        path `cgroup`, unless that is empty or the kernel cannot do it.
        """
        question = QUESTION + os.fsencode(cgroup)
        async with self._turn:
            for _ in range(_ATTEMPTS):
                if self._socket is None:
                    await self._end()
                server = self._ensure_server()
                # Without its answer, the server cannot be used again: that would be taken for the next one's.
                self._socket = None
                try:
                    send_order(server, question, order, connection)
                    answer = await self._receive(server)
                    self._socket = server
                except ConnectionLostError:
                    continue
                finally:
                    if self._socket is None:
                        server.close()
                if answer < 0:
                    raise LaunchError(
                        f"No process could be made for the script: {os.strerror(-answer)}",
                        hint="Look at the limits on tasks and memory of the agent's service.",
                    )
                return answer
        raise LaunchError(
            "The process that starts scripts ends as soon as it is started",
            hint=_by_hand(self._python),
        )

    async def aclose(self) -> None:
        """Ends the fork server.  The shims live on."""
        async with self._turn:
            await self._end()

    def _ensure_server(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise _not_started(self._python, error) from error
        with theirs:
            ours.setblocking(False)
            try:
                self._process = subprocess.Popen(
                    [self._python, "-I", "-S", "-X", "utf8", "-c", _PROGRAM, str(theirs.fileno()), str(_ROOT)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    cwd="/",
                    env=self._environment,
                )
            except OSError as error:
                ours.close()
                raise _not_started(self._python, error) from error
        restore_limit(self._process.pid)
        self._socket = ours
        return ours

    def _wake(self) -> None:
        """A script may have stopped the fork server."""
        if self._process is not None:
            # Not `send_signal`, which looks whether the process has ended: nobody but this object reaps it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._process.pid, signal.SIGCONT)

    async def _receive(self, server: socket.socket) -> int:
        """Returns the fork server's next answer.  Raises `ConnectionLostError` when none can come."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(server, readable.set)
        try:
            for _ in range(_LONGEST_ANSWER):
                self._wake()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await readable.wait()
                        break
            data = server.recv(ANSWER.size)
        except (BlockingIOError, ConnectionResetError) as error:
            raise ConnectionLostError from error
        finally:
            loop.remove_reader(server)
        if len(data) != ANSWER.size:
            raise ConnectionLostError
        return int(ANSWER.unpack(data)[0])

    async def _end(self) -> None:
        """Closes the fork server and waits for its end; may be cancelled and repeated."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            await asyncio.to_thread(_wait_or_kill, self._process)
            self._process = None


def _not_started(python: str, error: OSError) -> LaunchError:
    what, hint = "The process that starts scripts could not be started", _by_hand(python)
    if error.errno in _LACKS:
        hint = "Look at the limits on open files, tasks and memory of the agent's service."
    return LaunchError(f"{what}: {error.strerror} ({python})", hint=hint, exit_code=EXIT_USER_ERROR)


def _by_hand(python: str) -> str:
    return f"Run '{python} -I -S -c pass' by hand and see what is wrong with it."


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def send_order(to: socket.socket, question: bytes, order: RunOrder, *more: socket.socket) -> None:
    """Sends `question` with the order, in a memory file, and the sockets `more`.  Raises `ConnectionLostError`."""
    memory = _memory_file()
    try:
        disk.write_all(memory, order.encode())
        socket.send_fds(to, [question], [memory, *(one.fileno() for one in more)])
    except (BrokenPipeError, ConnectionResetError) as error:
        raise ConnectionLostError from error
    finally:
        os.close(memory)


def _memory_file() -> int:
    """Returns a file without a name, on the disk where the kernel or a filter of system calls refuses one in memory."""
    try:
        return os.memfd_create("tentacle-run", os.MFD_CLOEXEC)
    except OSError:
        with tempfile.TemporaryFile(dir=_SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None) as file:
            return os.dup(file.fileno())
