"""What one side of a conversation sends, in parts: control lines, messages and data streams, whoever reads it.

For looking on: it follows no rule of whose turn it is, and keeps no bytes of a data stream.  Pure.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final
from uuid import UUID

import bson

from tentacle.records import dataclass
from tentacle.wire.buffer import ReceiveBuffer
from tentacle.wire.envelope import Inflater
from tentacle.wire.errors import ProtocolError
from tentacle.wire.events import StreamBegin, StreamChunk, StreamEnd
from tentacle.wire.limits import Limits
from tentacle.wire.messages import announced_streams, decode_message
from tentacle.wire.streams import StreamReader

_CONTROL: Final = re.compile(rb"MX(?:\n\n|\r\n\r\n)|MX-[A-Z]+ [^\r\n]{0,500}\r\n\r\n|(?:NEXT|PROCEED|END)\r\n|\r\n")
_WORDS: Final = (b"MX\n\n", b"MX\r\n\r\n", b"MX-", b"NEXT\r\n", b"PROCEED\r\n", b"END\r\n", b"\r\n")
_LONGEST: Final = 600


@dataclass(frozen=True)
class ControlPart:
    """A control line with what ends it."""

    raw: bytes


@dataclass(frozen=True)
class MessagePart:
    """A message: how it was on the wire, its BSON, and that as a document."""

    raw: bytes
    plain: bytes
    document: Any


@dataclass(frozen=True)
class StreamPart:
    """A data stream, of whose bytes only their SHA-256 is kept."""

    identity: UUID
    length: int
    sha256: str


Part = ControlPart | MessagePart | StreamPart


class Transcript:
    """Takes the bytes of one side in pieces of any size.  After `ProtocolError` it can be used no more."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._buffer = ReceiveBuffer()
        self._inflater: Inflater | None = None
        self._reader: StreamReader | None = None
        self._raw = bytearray()
        self._digest = hashlib.sha256()
        self._stream: tuple[UUID, int] | None = None

    def feed(self, data: bytes) -> list[Part]:
        """Returns the parts that are complete now.  Raises `ProtocolError`."""
        if self._reader is None:
            self._raw += data
        self._buffer.feed(data)
        found: list[Part] = []
        while len(self._buffer) and (part := self._next()) is not None:
            found.append(part)
        return found

    def _next(self) -> Part | None:
        if self._reader is not None:
            return self._next_stream(self._reader)
        if self._inflater is None:
            front = self._buffer.peek(_LONGEST)
            if (line := _CONTROL.match(front)) is not None:
                return ControlPart(self._taken(self._buffer.take(line.end())))
            if any(word.startswith(front[: len(word)]) for word in _WORDS):
                return None
            self._inflater = Inflater(self._limits)
        return self._next_message(self._inflater)

    def _next_message(self, inflater: Inflater) -> MessagePart | None:
        before = inflater.take(self._buffer)
        if before is None:
            return None
        plain, self._inflater = bytes(before), None
        streams = announced_streams(decode_message(plain, self._limits))
        raw = self._taken(bytes(self._raw[: len(self._raw) - len(self._buffer)]))
        if streams:
            self._reader = StreamReader(streams)
            self._raw.clear()
        return MessagePart(raw, plain, bson.decode(plain[: int.from_bytes(plain[:4], "little")]))

    def _next_stream(self, reader: StreamReader) -> StreamPart | None:
        while (event := reader.next_event(self._buffer)) is not None:
            match event:
                case StreamBegin(identity, length):
                    self._digest, self._stream = hashlib.sha256(), (identity, length)
                case StreamChunk(data):
                    self._digest.update(data)
                case StreamEnd():
                    if reader.done:
                        self._reader = None
                        self._raw += self._buffer.peek(len(self._buffer))
                    if self._stream is None:
                        raise ProtocolError("a data stream ends that has not begun")
                    return StreamPart(*self._stream, self._digest.hexdigest())
        return None

    def _taken(self, raw: bytes) -> bytes:
        del self._raw[: len(raw)]
        return raw
