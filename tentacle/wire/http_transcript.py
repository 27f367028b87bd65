"""What both sides of a connection by HTTP/1.1 say, in requests and answers, whoever reads them.

For looking on, as `wire/transcript.py` is for Halibut.  Bytes are kept of bodies that can be read as JSON or as events,
and of no other.  Pure.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, cast

import h11

from tentacle.records import dataclass
from tentacle.wire.errors import ProtocolError
from tentacle.wire.limits import MIB

_LONGEST_HEAD: Final = 2 * MIB
_LONGEST_BODY: Final = 16 * MIB
"""Of a longer one no bytes are kept, whatever its type."""
Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HttpHead:
    """`first` is the first line without its end; `method` is that of a request, `status` that of an answer."""

    first: str
    fields: Fields
    method: str | None = None
    target: str = ""
    status: int = 0

    def field(self, name: str) -> str:
        """The value of the field called `name`, in lower case, or nothing."""
        return next((value for one, value in self.fields if one.lower() == name), "")


@dataclass(frozen=True)
class HttpPart:
    """A request or an answer, or with no `head` some more of the events of the answer before.

    `raw` is how it was on the wire, as far as it was kept; it took `size` bytes there.  Of the body there are its
    `length`, its `sha256`, and the bytes if they were kept.  It is not `whole` where the connection broke within it.
    Of an answer with `events` the body follows in other parts.
    """

    head: HttpHead | None
    raw: bytes
    size: int
    body: bytes | None = None
    length: int = 0
    sha256: str = ""
    whole: bool = True
    events: bool = False


class HttpTranscript:
    """Takes the bytes of each side in pieces of any size.  After `ProtocolError` that side can be used no more."""

    def __init__(self) -> None:
        self._asked: deque[bytes] = deque()
        """The methods of the requests that have not been answered yet: they tell whether an answer has a body."""
        self._requests = _Side(lambda: h11.Connection(h11.SERVER, _LONGEST_HEAD), self._asked.append)
        self._answers = _Side(self._answered, lambda _: None)

    def requests(self, data: bytes) -> list[HttpPart]:
        """What is complete now of what was asked; with no data, all that there is.  Raises `ProtocolError`."""
        return self._requests.feed(data)

    def answers(self, data: bytes) -> list[HttpPart]:
        """The same of the other side."""
        return self._answers.feed(data)

    def _answered(self) -> h11.Connection:
        connection = h11.Connection(h11.CLIENT, _LONGEST_HEAD)
        method = self._asked.popleft() if self._asked else b"GET"
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "-")]))
        connection.send(h11.EndOfMessage())
        return connection


class _Side:
    """Reads messages, one after another, each with a parser that `begin` makes; `asks` is told of each method."""

    def __init__(self, begin: Callable[[], h11.Connection], asks: Callable[[bytes], None]) -> None:
        self._begin = begin
        self._asks = asks
        self._parser: h11.Connection | None = None
        self._message: _Message | None = None
        self._taken = b""
        """What the parser has taken and told nothing of: the end of a chunk, most likely."""

    def feed(self, data: bytes) -> list[HttpPart]:
        try:
            return list(self._parts(data))
        except h11.ProtocolError:
            # Its text would show the bytes.
            if not data:
                message, self._message = self._message, None
                return [] if message is None or message.events else [message.part(whole=False)]
            raise ProtocolError("it is not HTTP/1.1") from None

    def _parts(self, data: bytes) -> Iterator[HttpPart]:
        if self._parser is None and not data:
            return
        parser = self._parser = self._parser or self._begin()
        parser.receive_data(data)
        while True:
            before = parser.trailing_data[0]
            event = parser.next_event()
            left = parser.trailing_data[0]
            self._taken += before[: len(before) - len(left)]
            if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return
            taken, self._taken = self._taken, b""
            yield from self._event(cast(h11.Event, event), taken)
            if isinstance(event, h11.EndOfMessage):
                self._parser = self._message = None
                if not left:
                    return
                parser = self._parser = self._begin()
                parser.receive_data(left)

    def _event(self, event: h11.Event, raw: bytes) -> Iterator[HttpPart]:
        if isinstance(event, h11.InformationalResponse):
            yield _Message(_head(event, raw), raw).part()
        elif isinstance(event, h11.Request | h11.Response):
            if isinstance(event, h11.Request):
                self._asks(event.method)
            self._message = _Message(_head(event, raw), raw)
            if self._message.events:
                yield self._message.part()
        elif self._message is not None:
            piece = bytes(event.data) if isinstance(event, h11.Data) else b""
            if self._message.events:
                yield HttpPart(None, raw, len(raw), piece, len(piece), events=True)
            else:
                self._message.add(raw, piece)
                if isinstance(event, h11.EndOfMessage):
                    yield self._message.part()


class _Message:
    """One that comes in pieces."""

    def __init__(self, head: HttpHead, raw: bytes) -> None:
        self.head = head
        kind = head.field("content-type").partition(";")[0].strip().lower()
        self.events = kind == "text/event-stream"
        self._raw, self._body = [raw], [b""] if kind == "application/json" or kind.endswith("+json") else None
        self._size, self._length, self._digest = len(raw), 0, hashlib.sha256()

    def add(self, raw: bytes, piece: bytes) -> None:
        self._size += len(raw)
        self._length += len(piece)
        self._digest.update(piece)
        if self._length > _LONGEST_BODY:
            del self._raw[1:]
            self._body = None
        if self._body is not None:
            self._raw.append(raw)
            self._body.append(piece)

    def part(self, *, whole: bool = True) -> HttpPart:
        body = None if self._body is None else b"".join(self._body)
        digest = self._digest.hexdigest() if self._length else ""
        return HttpPart(self.head, b"".join(self._raw), self._size, body, self._length, digest, whole, self.events)


def _head(event: h11.Request | h11.Response | h11.InformationalResponse, raw: bytes) -> HttpHead:
    first = raw.partition(b"\r\n")[0].decode("latin-1")
    fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers.raw_items())
    if isinstance(event, h11.Request):
        return HttpHead(first, fields, event.method.decode("latin-1"), event.target.decode("latin-1"))
    return HttpHead(first, fields, status=event.status_code)
