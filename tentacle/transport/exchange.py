"""Moves bytes between a stream and a `wire.Connection`, within time-outs, and data streams from and to files.

Knows how long to wait for what; must not know what a request means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import field
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from tentacle.records import dataclass
from tentacle.transport.errors import Disconnected
from tentacle.transport.file_reading import read_at
from tentacle.transport.memory import EVERYBODY, FREE, Memory, MemoryShare
from tentacle.transport.spool import Delivery, Spool
from tentacle.transport.stream import ByteStream, limit, piece_size
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.call_context import NOBODY, CallContext
from tentacle.wire.connection import Connection
from tentacle.wire.events import (
    Event,
    Preface,
    RequestEvent,
    ResponseEvent,
    StreamBegin,
    StreamChunk,
    StreamEnd,
)
from tentacle.wire.generations import Generation
from tentacle.wire.messages import Request, Response
from tentacle.wire.rules import State

Answer = tuple[Response, Mapping[UUID, BinaryIO]]
"""A response, and per announced data stream an open file with at least the announced number of bytes to read."""

Handler = Callable[[Request, Mapping[UUID, Path], CallContext], Awaitable[Answer]]
"""Answers a request whose data streams lie in the given files; the files may be moved away.  Never raises."""

_MESSAGES = RequestEvent, ResponseEvent
_WORTH_A_THREAD = 256 * 1024
"""Messages that take so much memory are read in a thread, so that other calls need not wait for it."""
_ENOUGH = 128 * 1024
"""Bytes after which a peer in the middle of something counts as one that has not been waited for yet."""

_TOGETHER = 64 * 1024
"""Bytes that are collected before they are sent, where more follows at once."""

_STREAMS_AT_ONCE = 8
"""Files that are made before others have their turn: of short ones, hundreds may have arrived together."""


@dataclass(frozen=True)
class Received:
    """An event, and the files of its data streams.  Call `release` when the files are not needed any more."""

    event: Event
    files: Mapping[UUID, Path] = field(default_factory=dict)
    release: Callable[[], None] = lambda: None


class Exchange:
    """One connection in use.  It waits within time-outs, and sends and receives in pieces.

    `context` says who the peer is.  Its long requests, and long messages to it, are paid from `memory`.
    """

    def __init__(
        self,
        stream: ByteStream,
        connection: Connection,
        timeouts: Timeouts,
        spool: Spool,
        *,
        context: CallContext = NOBODY,
        memory: Memory = EVERYBODY,
    ) -> None:
        self.stream = stream
        self.connection = connection
        self.timeouts = timeouts
        self._spool = spool
        self.context = context
        self._memory = memory
        self.generation = Generation.OLD
        """Of the code at the other end; an old one gets nothing soon after the end of a message."""
        self._collected: list[bytes] = []
        self._ended_message = False
        """A message, data stream or control line was sent last, and the peer has said nothing since."""
        self._waited = 0.0
        self._arrived = 0
        self.waiting_since: float | None = None
        """Since when the peer is waited for, by the loop's clock, little pieces apart; `None` while it is our turn."""

    async def receive(self, first_byte: float) -> Received:
        """Returns the next event with all its data streams; waits up to `first_byte` seconds for it to begin.

        Raises `ProtocolError`, `TimedOut` or `Disconnected`.  After that the connection cannot be used any more.
        """
        share = self._memory.share(self.context.thumbprint, self)
        is_over = True
        try:
            event = await self._event(first_byte, share)
            self._ended_message = False
            share.settle()
            if not isinstance(event, _MESSAGES) or not (event.streams or share.held):
                return Received(event)
            is_over = False
            return await self._with_streams(event, share)
        finally:
            if is_over:
                share.release()

    async def _with_streams(self, event: RequestEvent | ResponseEvent, share: MemoryShare) -> Received:
        with ExitStack() as undo:
            undo.callback(share.release)
            delivery = self._spool.delivery()
            undo.callback(delivery.discard)
            for number in range(event.streams):
                if number % _STREAMS_AT_ONCE == _STREAMS_AT_ONCE - 1:
                    await asyncio.sleep(0)
                await self._receive_stream(delivery, share)
            return Received(event, delivery.files, undo.pop_all().close)

    def give_up(self) -> None:
        """Ends the connection.  May be repeated."""
        self.stream.abort()

    async def pack(self, response: Response) -> list[bytes]:
        """Returns a response as `send_packed` sends it, which may be much less than what it was made from."""
        event = ResponseEvent(response)
        # Encoding a long log takes a while, and other calls must not wait for it.
        return await asyncio.to_thread(self.connection.send, event) if response.is_long else self.connection.send(event)

    async def send(self, event: Event, timeout: float | None = None) -> None:
        """Sends an event without data streams."""
        await self._part()
        self._collected += self.connection.send(event)
        await self._flush(timeout or self.timeouts.send)
        self._ended_message = not isinstance(event, Preface)

    async def send_packed(
        self, records: list[bytes], files: Mapping[UUID, BinaryIO], following: Event | None = None
    ) -> None:
        """Sends the message packed last and the data streams that it announces, from the beginning of `files`.

        The pieces of all that, and of the `following` event, leave together, each in records of its own.
        """
        announced = self.connection.announced
        await self._part()
        await self._collect(records)
        self._ended_message = True
        for identity, length in announced:
            await self._part()
            await self._collect(self.connection.send(StreamBegin(identity, length)))
            await self._send_body(files[identity], length)
            await self._collect(self.connection.send(StreamEnd()))
            self._ended_message = True
        if following is not None:
            await self._part()
            self._collected += self.connection.send(following)
        await self._flush(self.timeouts.send)

    async def send_request(self, request: Request, files: Mapping[UUID, BinaryIO]) -> None:
        """Sends a request and the data streams that it announces, from the beginning of `files`."""
        await self.send_packed(self.connection.send(RequestEvent(request)), files)

    async def wait_readable(self) -> None:
        """Returns when the peer has sent something or has closed; what it sent is kept for `receive`."""
        self.connection.receive_data(await self.stream.receive())

    async def _part(self) -> None:
        """Gives an old peer time to take the message, data stream or control line that was sent before."""
        if self._ended_message and self.generation is Generation.OLD:
            await self._flush(self.timeouts.send)
            self.waiting_since = asyncio.get_running_loop().time()
            async with limit(self.timeouts.send, "the peer to take what was sent"):
                await self.stream.settled()
            self.waiting_since = None
        self._ended_message = False

    async def _send_body(self, file: BinaryIO, length: int) -> None:
        sent = 0
        while sent < length:
            try:
                data = await read_at(file, sent, min(length - sent, piece_size()))
            except (OSError, ValueError) as error:
                # One that is closed belongs to a call that was given up meanwhile.
                raise Disconnected("a file could not be read any more while it was being sent") from error
            if not data:
                # The announced length cannot be met.  A broken connection is better than a peer that reads rubbish.
                raise Disconnected("a file became shorter while it was being sent")
            sent += len(data)
            await self._collect(self.connection.send(StreamChunk(data)))

    async def _collect(self, records: list[bytes]) -> None:
        """Adds to what is sent together, which leaves when it has become much."""
        self._collected += records
        if sum(map(len, self._collected)) >= _TOGETHER:
            await self._flush(self.timeouts.send)

    async def _flush(self, timeout: float) -> None:
        records, self._collected = self._collected, []
        sent = 0
        try:
            for batch in _batches(records):
                sent += len(batch)
                if not self.stream.send_now(*batch):
                    async with limit(timeout, "the peer to take what was sent"):
                        await self._send_slowly(records, sent)
                    return
        except OSError as error:
            raise Disconnected("the connection broke while sending") from error

    async def _send_slowly(self, records: list[bytes], done: int) -> None:
        """Sends the records after the first `done` to a peer that does not take them at once."""
        loop = asyncio.get_running_loop()
        share = self._memory.share(self.context.thumbprint, self)
        try:
            # All of them, however short: there may be a thousand such peers.
            share.take(sum(map(len, records)) + self.stream.unsent)
            self.waiting_since = loop.time()
            await self.stream.drained()
            for record in records[done:]:
                self.waiting_since = loop.time()
                await self.stream.send(record)
        finally:
            self.waiting_since = None
            share.release()

    async def _receive_stream(self, delivery: Delivery, share: MemoryShare) -> None:
        while True:
            match await self._event(self.timeouts.receive, share):
                case StreamBegin(identity, length):
                    delivery.begin(identity, length)
                case StreamChunk(data):
                    await delivery.write(data)
                case StreamEnd():
                    await delivery.end()
                    return
                case _:
                    raise Disconnected("the connection ended within a data stream")

    async def _event(self, first_byte: float, share: MemoryShare) -> Event:
        while True:
            # Who has made a call has to have room for the response.
            request = self.connection.state is State.EXPECT_REQUEST
            self.connection.allowed = max(share.held, FREE) if request else None
            long = request and share.held >= _WORTH_A_THREAD
            next_event = self.connection.next_event
            event = await asyncio.to_thread(next_event) if long else next_event()
            if event is not None:
                return event
            if self.connection.wanted is not None:
                async with limit(self.timeouts.receive, "memory for a long message"):
                    await share.grow(self.connection.wanted)
            else:
                await self._more(first_byte)

    async def _more(self, first_byte: float) -> None:
        """Receives, and notes for how long the peer was waited for in vain.  What we do meanwhile does not count."""
        between = self.connection.between_elements
        if between or self._arrived >= _ENOUGH:
            self._waited = self._arrived = 0
        began = asyncio.get_running_loop().time()
        self.waiting_since = began - self._waited
        async with limit(first_byte if between else self.timeouts.receive, "the peer"):
            data = await self.stream.receive()
        self._waited += asyncio.get_running_loop().time() - began
        self._arrived += len(data)
        self.waiting_since = None
        self.connection.receive_data(data)


def _batches(records: list[bytes]) -> Iterator[list[bytes]]:
    """The records in their order, as many at a time as are sent together."""
    batch: list[bytes] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record)
        if size >= _TOGETHER:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
