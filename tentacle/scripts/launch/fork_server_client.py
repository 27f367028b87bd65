"""The agent's side of the fork server: asks it for shims, and connects again when it has gone.

Asking twice for the same run is harmless: the second shim finds the run claimed and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable

from tentacle import disk
from tentacle.scripts.errors import LaunchError
from tentacle.scripts.launch.fork_servers import ForkServer, OwnForkServer
from tentacle.scripts.shim.fork_messages import ANSWER, QUESTION, WHO
from tentacle.scripts.shim.run_order import RunOrder

_LOOK_SECONDS = 0.5
_LONGEST_ANSWER = 40
"""Looks; a script may have stopped the server at any moment."""
_ATTEMPTS = 3
_SHARED_MEMORY = "/dev/shm"  # noqa: S108


class ConnectionLostError(Exception):
    """The process at the other end of the socket has died, or does not answer."""


class ForkServerClient:
    """Use from one event loop.  `server` is by default one that belongs to this agent, with its environment.

    `renewed` is called with the number of each process that takes the place of one that `start` has found.
    """

    def __init__(
        self, server: ForkServer | None = None, renewed: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        self._server = server or OwnForkServer()
        self._renewed = renewed
        self._turn = asyncio.Lock()
        self._socket: socket.socket | None = None
        self._watched: socket.socket | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._known: int | None = None
        self.is_own = self._server.is_own

    @property
    def pid(self) -> int | None:
        """The process number of the fork server; `None` when there is none."""
        return self._server.pid

    async def start(self) -> None:
        """Starts the fork server before the first script needs it, or connects to it.  Raises `LaunchError`."""
        async with self._turn:
            for _ in range(_ATTEMPTS):
                with contextlib.suppress(ConnectionLostError):
                    await self._ensure_server()
                    self._watch()
                    return
        raise self._server.useless()

    async def launch(self, order: RunOrder, connection: socket.socket, cgroup: str = "") -> int:
        """Starts a shim that carries out the order; returns its process number.  Raises `LaunchError`.

        The shim keeps its end `connection`, over which it can be given further runs.  It is born in the cgroup with the
        path `cgroup`, unless that is empty or the kernel cannot do it.
        """
        question = QUESTION + os.fsencode(cgroup)
        async with self._turn:
            for _ in range(_ATTEMPTS):
                try:
                    answer = await self._ask(await self._ensure_server(), question, order, connection)
                except ConnectionLostError:
                    continue
                self._watch()
                if answer < 0:
                    raise LaunchError(
                        f"No process could be made for the script: {os.strerror(-answer)}",
                        hint="Look at the limits on tasks and memory of the agent's service.",
                    )
                return answer
        raise self._server.useless()

    async def aclose(self) -> None:
        """Lets go of the fork server, and ends it where it is this agent's own.  The shims live on."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        async with self._turn:
            self._unwatch()
            await self._end()

    async def _ask(
        self, server: socket.socket, question: bytes, order: RunOrder | None = None, *more: socket.socket
    ) -> int:
        """Returns the answer to a question.  Raises `ConnectionLostError`."""
        self._unwatch()
        # Without its answer, the server cannot be used again: that would be taken for the next one's.
        self._socket = None
        try:
            if order is None:
                _send(server, question)
            else:
                send_order(server, question, order, *more)
            answer = await self._receive(server)
            self._socket = server
        finally:
            if self._socket is None:
                server.close()
        return answer

    async def _ensure_server(self) -> socket.socket:
        """Returns the socket.  Raises `LaunchError` and `ConnectionLostError`."""
        if self._socket is None:
            await self._end()
            self._socket = self._server.connect()
            if not self._server.is_own:
                await self._get_to_know(await self._ask(self._socket, WHO))
        assert self._socket is not None, "it was asked and has answered"
        return self._socket

    async def _get_to_know(self, pid: int) -> None:
        self._server.belongs_to(pid)
        was, self._known = self._known, pid
        if was not in (None, pid) and self._renewed is not None:
            await self._renewed(pid)

    def _watch(self) -> None:
        """Has a new connection made as soon as this one ends, where others end the server and start it again."""
        if self._socket is not None and not self._server.is_own:
            self._watched = self._socket
            asyncio.get_running_loop().add_reader(self._watched, self._on_gone)

    def _unwatch(self) -> None:
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = None

    def _on_gone(self) -> None:
        gone = self._watched
        self._unwatch()
        if gone is not None and self._socket is gone:
            gone.close()
            self._socket = None
        self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        # Told to whoever starts the next script.
        with contextlib.suppress(LaunchError):
            await self.start()

    async def _receive(self, server: socket.socket) -> int:
        """Returns the fork server's next answer.  Raises `ConnectionLostError` when none can come."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(server, readable.set)
        try:
            for _ in range(_LONGEST_ANSWER):
                self._server.wake()
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
        """Closes the connection and waits for the end of a server of ours; may be cancelled and repeated."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        await self._server.end()


def send_order(to: socket.socket, question: bytes, order: RunOrder, *more: socket.socket) -> None:
    """Sends `question` with the order, in a memory file, and the sockets `more`.  Raises `ConnectionLostError`."""
    memory = _memory_file()
    try:
        disk.write_all(memory, order.encode())
        _send(to, question, memory, *(one.fileno() for one in more))
    finally:
        os.close(memory)


def _send(to: socket.socket, question: bytes, *descriptors: int) -> None:
    try:
        socket.send_fds(to, [question], descriptors)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise ConnectionLostError from error


def _memory_file() -> int:
    """Returns a file without a name, on the disk where the kernel or a filter of system calls refuses one in memory."""
    try:
        return os.memfd_create("tentacle-run", os.MFD_CLOEXEC)
    except OSError:
        with tempfile.TemporaryFile(dir=_SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None) as file:
            return os.dup(file.fileno())
