"""The agent's end of the control channel: takes connections, reads requests line by line, answers them.

Everything is bounded: how many may be connected, how long a line is, how long a silent or slow peer is waited for.
Knows the protocol.  Must not know what a method does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tentacle.agent.control.place import inode_of, open_socket, remove_socket, user_of_peer
from tentacle.agent.control.protocol import (
    LONGEST_REQUEST,
    ControlError,
    ControlRequest,
    decode_request,
    encode_error,
    encode_event,
    encode_result,
)
from tentacle.disk import user_name
from tentacle.errors import TentacleError, one_line
from tentacle.home_layout import CONTROL_SOCKET

log = logging.getLogger(__name__)

MOST_CLIENTS: Final = 32
IDLE_SECONDS: Final = 60.0
"""How long a connection may stay without a request."""
BEAT_SECONDS: Final = 2.0
"""How often a command that waits is told, by an event without content, that the agent is there."""
LOOK_SECONDS: Final = 0.5
"""How often is looked whether a peer that sends no more has gone."""
SEND_SECONDS: Final = 30.0
"""How long a peer may take to read what was sent."""

Tell = Callable[[dict[str, Any]], Awaitable[None]]
Method = Callable[[ControlRequest, Tell], Awaitable[dict[str, Any]]]
"""Carries out a request and returns the result; tells events meanwhile.  Is cancelled when the peer goes away."""


class ControlServer:
    """Serves `HOME/agent.sock` with `methods`, by name."""

    def __init__(
        self, home: Path, methods: Mapping[str, Method], *, idle: float = IDLE_SECONDS, most: int = MOST_CLIENTS
    ) -> None:
        self._home = home
        self._methods = methods
        self._idle = idle
        self._most = most
        self._server: asyncio.Server | None = None
        self._inode: int | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Opens the socket.  Where the file system has no sockets, the agent works without; the log says so."""
        try:
            listening = open_socket(self._home)
        except OSError as error:
            log.warning(
                "The control channel %s cannot be opened (%s): status shows what the agent writes to files, "
                "and 'tentacle drain' needs a restart of the agent",
                self._home / CONTROL_SOCKET,
                error.strerror or one_line(error),
            )
            return
        self._inode = inode_of(self._home)
        # Not as a Unix server: that would remove the file itself, by a path that need not lead there any more.
        self._server = await asyncio.start_server(self._on_connection, sock=listening, limit=LONGEST_REQUEST)

    async def aclose(self) -> None:
        """Closes the socket and ends the calls under way."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        remove_socket(self._home, self._inode)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "the event loop runs this in a task"
        self._connections.add(task)
        try:
            refusal = self._refusal(writer.get_extra_info("socket"))
            if refusal is not None:
                await _send(writer, encode_error(refusal))
            else:
                await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        except asyncio.CancelledError:
            # Only `aclose` does that.  A task of a stream server that ends as cancelled is told about in the log.
            return
        finally:
            self._connections.discard(task)
            writer.close()

    def _refusal(self, connection: socket.socket) -> ControlError | None:
        """Why nothing is said to this peer.  The mode of the file keeps others away, but may have been changed."""
        user = user_of_peer(connection)
        if user not in (0, os.geteuid()):
            allowed = "root" if os.geteuid() == 0 else f"root and {user_name(os.geteuid())}"
            return ControlError("not-permitted", f"Only {allowed} may ask this agent, and not {user_name(user)}.")
        if len(self._connections) > self._most:
            return ControlError("busy", f"{self._most} others are connected to this agent; try again later.")
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other.  What follows a request before it is answered belongs to the next one."""
        early = b""
        while True:
            try:
                async with asyncio.timeout(self._idle):
                    line = early + await reader.readuntil(b"\n")
            except asyncio.LimitOverrunError:
                error = ControlError("bad-request", f"A request is longer than {LONGEST_REQUEST} bytes.")
                await _send(writer, encode_error(error))
                return
            answering = asyncio.ensure_future(self._answer(line, writer))
            listening = asyncio.ensure_future(_next_byte(reader, writer.get_extra_info("socket")))
            try:
                while not answering.done():
                    waited = {answering} if listening.done() else {answering, listening}
                    await asyncio.wait(waited, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                    if not answering.done() and listening.done() and not listening.result():
                        # The peer has gone: nobody waits for the answer.
                        return
                    if not answering.done() and not writer.transport.get_write_buffer_size():
                        writer.write(encode_event({}))
                await answering
            finally:
                for task in (answering, listening):
                    task.cancel()
                await asyncio.gather(answering, listening, return_exceptions=True)
            early = b"" if listening.cancelled() else listening.result()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            request = decode_request(line)
            method = self._methods.get(request.method)
            if method is None:
                known = ", ".join(sorted(self._methods))
                raise ControlError("unknown-method", f"There is no method {request.method!r:.40}, only: {known}")
            answer = encode_result(await method(request, lambda event: _send(writer, encode_event(event))))
        except TentacleError as error:
            answer = encode_error(error)
        except OSError as error:
            answer = encode_error(ControlError("failed", f"The agent could not do that: {one_line(error)}"))
        await _send(writer, answer)


async def _next_byte(reader: asyncio.StreamReader, connection: socket.socket) -> bytes:
    """The next byte from the peer; none when it has gone.  One that has only said that it sends no more is still there.

    Such a peer is `nc -N`, or a shell's pipe.
    """
    if byte := await reader.read(1):
        return byte
    poll = select.poll()
    poll.register(connection, 0)
    while not any(event & select.POLLHUP for _, event in poll.poll(0)):  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(LOOK_SECONDS)
    return b""


async def _send(writer: asyncio.StreamWriter, line: bytes) -> None:
    writer.write(line)
    async with asyncio.timeout(SEND_SECONDS):
        await writer.drain()
