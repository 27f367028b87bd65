"""One connection, from either end: bytes in, events out; events in, bytes out.

    connection = Connection(Role.LISTENING_SERVICE)
    connection.receive_data(data)              # b"" means that the peer has closed
    while (event := connection.next_event()) is not None: ...
    for record in connection.send(event): ...  # each to be written, and flushed, on its own

Knows the order of things (`rules`) and how each is written; must not know where bytes come from.  Each element of what
`send` returns goes into a TLS record of its own: old peers lose bytes that arrive together with the end of a message,
and tools tell control lines from messages by their size (docs/spec/wire.md, "Control lines").
"""

from __future__ import annotations

from tentacle.wire.buffer import ReceiveBuffer
from tentacle.wire.control import encode_control, encode_identity, take_control, take_identity
from tentacle.wire.envelope import Inflater, deflate, split_for_records
from tentacle.wire.errors import LocalProtocolError, PeerClosed, ProtocolError
from tentacle.wire.events import (
    Closed,
    End,
    Event,
    Identity,
    Next,
    Nothing,
    Preface,
    Proceed,
    RequestEvent,
    ResponseEvent,
    StreamBegin,
    StreamChunk,
    StreamEnd,
)
from tentacle.wire.limits import Limits
from tentacle.wire.messages import (
    MEMORY_PER_BYTE,
    Message,
    Request,
    Response,
    announced_streams,
    decode_message,
    memory_needed,
    message_parts,
)
from tentacle.wire.preface import PREFACE, take_preface
from tentacle.wire.rules import IDENTITY, OURS, RULES, Role, State, What, may_hang_up
from tentacle.wire.streams import Announced, StreamReader, StreamWriter, check_announced

_OF_STREAMS = StreamBegin, StreamChunk, StreamEnd
_CONTROL = {Next: What.NEXT, Proceed: What.PROCEED, End: What.END}


class Connection:
    """The protocol state of one connection in one role.

    `next_event` raises `ProtocolError` when the peer breaks the protocol or a limit, `send` raises
    `LocalProtocolError` when we would.  After either, the connection is closed and can only be dropped.
    """

    def __init__(self, role: Role, limits: Limits | None = None) -> None:
        self.role = role
        self.limits = limits or Limits()
        self._rules = RULES[role]
        self._state = self._rules.start
        self._buffer = ReceiveBuffer()
        self._inflater = Inflater(self.limits)
        self._reader: StreamReader | None = None
        self._writer: StreamWriter | None = None
        self.allowed: int | None = None
        """Bytes of memory that a message may take before `next_event` pauses; `None`: as many as the limits let it."""
        self.wanted: int | None = None
        """Bytes of memory with which `next_event` can go on, when it has paused."""
        self.announced: Announced = ()
        """Id and length of the data streams that must follow the message sent last."""

    @property
    def state(self) -> State:
        return self._state

    @property
    def between_elements(self) -> bool:
        """Whether no byte of the next element has arrived yet, so that a long wait does not mean a stalled peer."""
        return not len(self._buffer) and not self._inflater.started and self._reader is None

    def receive_data(self, data: bytes) -> None:
        """Takes bytes that have arrived; `b""` means that the peer has closed."""
        if data:
            self._buffer.feed(data)
        else:
            self._buffer.feed_eof()

    def next_event(self) -> Event | None:
        """The next thing that happened, or `None` when more bytes are needed or it is our turn."""
        try:
            return self._next_event()
        except ProtocolError:
            self._state = State.CLOSED
            raise

    def send(self, event: Event) -> list[bytes]:
        """The bytes for `event`; one element per write."""
        if isinstance(event, _OF_STREAMS):
            return self._send_stream(event)
        if self._writer is not None:
            raise LocalProtocolError("the data streams of the last message are not complete")
        match event:
            case RequestEvent(request):
                return self._send_message(What.REQUEST, request)
            case ResponseEvent(response):
                return self._send_message(What.RESPONSE, response)
            case Nothing():
                return self._send_message(What.NOTHING, None)
            case Preface():
                self._advance_own(What.PREFACE)
                return [PREFACE]
            case Identity():
                self._advance_own(IDENTITY[event.kind])
                return [encode_identity(event)]
            case Next() | Proceed() | End():
                self._advance_own(_CONTROL[type(event)])
                return [encode_control(event)]
        raise LocalProtocolError(f"{type(event).__name__} cannot be sent")

    # --- receiving --------------------------------------------------------------------------------------------

    def _next_event(self) -> Event | None:
        if self._state is State.CLOSED:
            return None
        if self._reader is not None:
            return self._read_stream(self._reader)
        if self._buffer.at_eof and not len(self._buffer) and not self._inflater.started:
            return self._hang_up()
        match self._state:
            case State.EXPECT_PREFACE:
                return self._read_preface()
            case State.EXPECT_IDENTITY:
                return self._read_identity()
            case State.EXPECT_REQUEST | State.EXPECT_RESPONSE:
                return self._read_message()
            case State.EXPECT_CONTROL | State.EXPECT_PROCEED:
                return self._read_control()
        return None

    def _hang_up(self) -> Closed | None:
        if not may_hang_up(self._state):
            raise PeerClosed(f"the peer closed the connection ({self._state.name.lower().replace('_', ' ')})")
        self._state = State.CLOSED
        return Closed()

    def _read_preface(self) -> Preface | None:
        if take_preface(self._buffer, self.limits) is None:
            return None
        self._advance_peer(What.PREFACE)
        return Preface()

    def _read_identity(self) -> Identity | None:
        identity = take_identity(self._buffer, self.limits)
        if identity is not None:
            self._advance_peer(IDENTITY[identity.kind])
        return identity

    def _read_control(self) -> Next | Proceed | End | None:
        line = take_control(self._buffer, self.limits)
        if line is not None:
            self._advance_peer(_CONTROL[type(line)])
        return line

    def _read_message(self) -> RequestEvent | ResponseEvent | Nothing | None:
        plain = self._take_message()
        if plain is None:
            return None
        self._inflater = Inflater(self.limits)
        message = decode_message(plain, self.limits)
        streams = announced_streams(message)
        check_announced(streams, self.limits)
        self._advance_peer(_kind(message))
        if streams:
            self._reader = StreamReader(streams)
        if message is None:
            return Nothing()
        if isinstance(message, Request):
            return RequestEvent(message, len(streams))
        return ResponseEvent(message, len(streams))

    def _take_message(self) -> bytes | bytearray | None:
        """The plain text of a message, when all of it has arrived and it may take the memory that it needs."""
        allowed = self.allowed
        plain = self._inflater.take(self._buffer, None if allowed is None else allowed // MEMORY_PER_BYTE)
        self.wanted = None
        if plain is None and not self._inflater.paused:
            return None
        # What is wrong with a message is found in its first part, before the rest costs anything.
        needed = memory_needed(self._inflater.plain, self.limits)
        if allowed is None or (plain is not None and needed <= allowed):
            return plain
        self.wanted = needed if plain is not None else max(needed, 2 * allowed)
        return None

    def _read_stream(self, reader: StreamReader) -> StreamBegin | StreamChunk | StreamEnd | None:
        event = reader.next_event(self._buffer)
        if reader.done:
            self._reader = None
        return event

    def _advance_peer(self, what: What) -> None:
        following = self._rules.next_state(self._state, what)
        if following is None:
            raise ProtocolError(f"the peer sent {_words(what)} where a {self.role.value} does not expect it")
        self._state = following

    # --- sending ----------------------------------------------------------------------------------------------

    def _send_message(self, what: What, message: Message | None) -> list[bytes]:
        records = split_for_records(deflate(*message_parts(message)))
        self.announced = announced_streams(message)
        self._advance_own(what)
        self._writer = StreamWriter(self.announced) if self.announced else None
        return records

    def _send_stream(self, event: StreamBegin | StreamChunk | StreamEnd) -> list[bytes]:
        if self._writer is None:
            raise LocalProtocolError("no message announced a data stream")
        data = self._writer.send(event)
        if self._writer.done:
            self._writer = None
        return data

    def _advance_own(self, what: What) -> None:
        following = self._rules.next_state(self._state, what)
        if following is None or self._state not in OURS:
            raise LocalProtocolError(f"{_words(what)} cannot be sent in the state {self._state.name}")
        self._state = following


def _kind(message: Message | None) -> What:
    if message is None:
        return What.NOTHING
    return What.RESPONSE if isinstance(message, Response) else What.REQUEST


def _words(what: What) -> str:
    return what.name.lower().replace("_", " ")
