"""Data-stream blocks: id, length, the bytes, the length again (docs/spec/wire.md, "Data stream blocks").  One reader,
one writer.

Both refuse every difference from what the message before them announced: a stream more or less, another length, or
anything in between.
"""

from __future__ import annotations

import enum
import struct
from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from tentacle.wire.buffer import ReceiveBuffer
from tentacle.wire.errors import LocalProtocolError, ProtocolError
from tentacle.wire.events import StreamBegin, StreamChunk, StreamEnd
from tentacle.wire.limits import Limits

StreamEvent = StreamBegin | StreamChunk | StreamEnd
Announced = tuple[tuple[UUID, int], ...]

_LENGTH = struct.Struct("<q")
_CHUNK = 256 * 1024


class _Part(enum.Enum):
    HEAD = enum.auto()
    BODY = enum.auto()
    TAIL = enum.auto()


def check_announced(streams: Announced, limits: Limits) -> None:
    """Raises `ProtocolError` for too many streams, a length below zero or above the limit, or an id twice."""
    if len(streams) > limits.streams_per_message:
        raise ProtocolError(f"a message with more than {limits.streams_per_message} data streams")
    for _, length in streams:
        if not 0 <= length <= limits.stream_length:
            raise ProtocolError(f"a data stream of {length} bytes is announced")
    if any(count > 1 for count in Counter(identity for identity, _ in streams).values()):
        raise ProtocolError("two data streams with one id")


class StreamReader:
    """Reads the blocks that a message announced; they may come in any order (docs/spec/wire.md,
    "Reading data streams").
    """

    def __init__(self, announced: Iterable[tuple[UUID, int]]) -> None:
        self._expected = dict(announced)
        self._part = _Part.HEAD
        self._length = self._left = 0

    @property
    def done(self) -> bool:
        return not self._expected and self._part is _Part.HEAD

    def next_event(self, buffer: ReceiveBuffer) -> StreamEvent | None:
        """The next piece, or `None` while too few bytes have arrived."""
        event = {_Part.HEAD: self._head, _Part.BODY: self._body, _Part.TAIL: self._tail}[self._part](buffer)
        if event is None and buffer.at_eof:
            raise ProtocolError("the connection ended within a data stream")
        return event

    def _head(self, buffer: ReceiveBuffer) -> StreamBegin | None:
        if len(buffer) < 24:
            return None
        identity = UUID(bytes_le=buffer.take(16))
        (length,) = _LENGTH.unpack(buffer.take(8))
        if identity not in self._expected:
            raise ProtocolError("a data stream that no message announced")
        announced = self._expected.pop(identity)
        if length != announced:
            raise ProtocolError(f"a data stream of {length} bytes was announced with {announced}")
        self._length = self._left = length
        self._part = _Part.BODY if length else _Part.TAIL
        return StreamBegin(identity, length)

    def _body(self, buffer: ReceiveBuffer) -> StreamChunk | None:
        data = buffer.take(min(self._left, _CHUNK))
        if not data:
            return None
        self._left -= len(data)
        if not self._left:
            self._part = _Part.TAIL
        return StreamChunk(data)

    def _tail(self, buffer: ReceiveBuffer) -> StreamEnd | None:
        if len(buffer) < 8:
            return None
        (again,) = _LENGTH.unpack(buffer.take(8))
        if again != self._length:
            raise ProtocolError(f"a data stream of {self._length} bytes ended with the length {again}")
        self._part = _Part.HEAD
        return StreamEnd()


class StreamWriter:
    """Writes the blocks that our own message announced, in the order of the document."""

    def __init__(self, announced: Announced) -> None:
        self._expected = list(announced)
        self._open = False
        self._left = self._length = 0

    @property
    def done(self) -> bool:
        return not self._expected and not self._open

    def send(self, event: StreamEvent) -> list[bytes]:
        """The bytes of `event`, one element per write, as the original splits them (docs/spec/wire.md,
        "Data stream blocks").
        """
        match event:
            case StreamBegin(identity, length) if not self._open:
                return self._begin(identity, length)
            case StreamChunk(data) if self._open and len(data) <= self._left:
                self._left -= len(data)
                return [data] if data else []
            case StreamEnd() if self._open and not self._left:
                self._open = False
                return [_LENGTH.pack(self._length)]
        raise LocalProtocolError("a data stream that does not match its announcement")

    def _begin(self, identity: UUID, length: int) -> list[bytes]:
        if not self._expected or self._expected[0] != (identity, length):
            raise LocalProtocolError("a data stream that the message did not announce")
        del self._expected[0]
        self._open = True
        self._length = self._left = length
        return [identity.bytes_le, _LENGTH.pack(length)]
