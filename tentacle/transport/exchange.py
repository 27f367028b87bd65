"""Moves bytes between a stream and a `wire.Connection`, within time-outs, and data streams from and to files.

Knows how long to wait for what; must not know what a request means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from tentacle.transport.errors import Disconnected
from tentacle.transport.spool import Delivery, Spool
from tentacle.transport.stream import ByteStream, limit
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.connection import Connection
from tentacle.wire.events import (
    Event,
    RequestEvent,
    ResponseEvent,
    StreamBegin,
    StreamChunk,
    StreamEnd,
)
from tentacle.wire.messages import Request, Response

_READ_SIZE = 256 * 1024

Answer = tuple[Response, Mapping[UUID, BinaryIO]]
"""A response, and per announced data stream an open file with at least the announced number of bytes to read."""

Handler = Callable[[Request, Mapping[UUID, Path]], Awaitable[Answer]]
"""Answers a request whose data streams lie in the given files; the files may be moved away.  Never raises."""


@dataclass(frozen=True)
class Received:
    """An event, and the files of its data streams.  Call `release` when the files are not needed any more."""

    event: Event
    files: Mapping[UUID, Path] = field(default_factory=dict)
    release: Callable[[], None] = lambda: None


class Exchange:
    """One connection in use.  It waits within time-outs, and sends and receives in pieces."""

    def __init__(self, stream: ByteStream, connection: Connection, timeouts: Timeouts, spool: Spool) -> None:
        self.stream = stream
        self.connection = connection
        self.timeouts = timeouts
        self._spool = spool

    async def receive(self, first_byte: float) -> Received:
        """Returns the next event with all its data streams; waits up to `first_byte` seconds for it to begin.

        Raises `ProtocolError`, `TimedOut` or `Disconnected`.  After that the connection cannot be used any more.
        """
        event = await self._event(first_byte)
        if not isinstance(event, RequestEvent | ResponseEvent) or not event.streams:
            return Received(event)
        with ExitStack() as undo:
            delivery = self._spool.delivery()
            undo.callback(delivery.discard)
            for _ in range(event.streams):
                await self._receive_stream(delivery)
            undo.pop_all()
        return Received(event, delivery.files, delivery.discard)

    async def send(self, event: Event, timeout: float | None = None) -> None:
        """Sends an event without data streams, each of its records on its own."""
        # Encoding a long log takes a while, and other calls must not wait for it.
        long = isinstance(event, ResponseEvent) and event.response.is_long
        records = await asyncio.to_thread(self.connection.send, event) if long else self.connection.send(event)
        try:
            await self._write(records, timeout or self.timeouts.send)
        except OSError as error:
            raise Disconnected("the connection broke while sending") from error

    async def send_message(self, event: RequestEvent | ResponseEvent, files: Mapping[UUID, BinaryIO]) -> None:
        """Sends a request or response and the data streams that it announces, from the beginning of `files`."""
        await self.send(event)
        for identity, length in self.connection.announced:
            await self.send(StreamBegin(identity, length))
            await self._send_body(files[identity], length)
            await self.send(StreamEnd())

    async def wait_readable(self) -> None:
        """Returns when the peer has sent something or has closed; what it sent is kept for `receive`."""
        self.connection.receive_data(await self.stream.receive())

    async def _send_body(self, file: BinaryIO, length: int) -> None:
        left = length
        while left:
            try:
                data = await asyncio.to_thread(file.read, min(left, _READ_SIZE))
            except OSError as error:
                raise Disconnected("a file could not be read any more while it was being sent") from error
            if not data:
                # The announced length cannot be met.  A broken connection is better than a peer that reads rubbish.
                raise Disconnected("a file became shorter while it was being sent")
            left -= len(data)
            await self.send(StreamChunk(data))

    async def _write(self, records: list[bytes], timeout: float) -> None:
        for number, record in enumerate(records, 1):
            if not self.stream.send_now(record):
                async with limit(timeout, "the peer to take what was sent"):
                    await self.stream.drained()
                    for rest in records[number:]:
                        await self.stream.send(rest)
                return

    async def _receive_stream(self, delivery: Delivery) -> None:
        while True:
            match await self._event(self.timeouts.receive):
                case StreamBegin(identity, length):
                    delivery.begin(identity, length)
                case StreamChunk(data):
                    await delivery.write(data)
                case StreamEnd():
                    delivery.end()
                    return
                case _:
                    raise Disconnected("the connection ended within a data stream")

    async def _event(self, first_byte: float) -> Event:
        while True:
            event = self.connection.next_event()
            if event is not None:
                return event
            waiting = self.connection.between_elements
            async with limit(first_byte if waiting else self.timeouts.receive, "the peer"):
                self.connection.receive_data(await self.stream.receive())
