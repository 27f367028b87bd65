"""A WebSocket that carries Halibut (docs/spec/wire.md, "WebSockets"), from either end, as a pure protocol over wsproto.

    socket = WebSocket.dialled("octopus:443", "/OctopusComms")
    while not socket.handshake(): ...         # send `socket.owed()`, receive
    while (piece := socket.next_piece()) != b"":
        ...                                   # bytes of Halibut; None: send `socket.owed()`, receive

To Halibut it looks like a connection of TCP: the text `MX`, with which a connector begins, is the preface here.  Every
piece is a frame of its own that never ends its message, as the original writes and expects it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import uuid4

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import ProtocolError as WsprotoError

from tentacle.wire.errors import PeerClosed, ProtocolError
from tentacle.wire.preface import MAGIC, PREFACE

SUBPROTOCOL = "Octopus"
HELLO = MAGIC.decode("ascii")
_LONGEST_HELLO = 1024
_MOST_WITHOUT_DATA = 1000
"""Frames without data that a peer may send in a row: a keep-alive each second for a quarter of an hour."""
_NOT_HTTP = "the web socket's address has characters that HTTP does not know"
_VISIBLE = re.compile(r"[!-~]+")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_UPGRADE = re.compile(rb"^upgrade:[ \t]*websocket[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class UpgradeRefused(ProtocolError):
    """The web server does not open a web socket there; `status` is that of its answer, where it gave one."""

    def __init__(self, message: str, status: int | None = None, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class WebSocket:
    """One end.  After an error nothing more can be received, and `owed` is the last that should be sent."""

    def __init__(self, connection: WSConnection, path: str | None = None) -> None:
        self._socket = connection
        self._path = path
        """Where an acceptor opens web sockets; None for a connector."""
        self._events: Iterator[Event] = iter(())
        self._owed = bytearray()
        self._answer: Pong | None = None
        self._hello: str | None = "" if path is not None else None
        """What has arrived of the text with which a connector begins; None when it is not waited for."""
        self._greeted = path is not None
        self._without_data = 0
        self._ended = False
        self.opened = False

    @classmethod
    def dialled(cls, host: str, target: str) -> WebSocket:
        """The connector's end; `host` is the value of the header, `target` path and query.

        Raises `ProtocolError` for what HTTP cannot say.
        """
        socket = cls(WSConnection(ConnectionType.CLIENT))
        if not _VISIBLE.fullmatch(host + target):
            raise ProtocolError(_NOT_HTTP)
        request_id = [(b"X-Octopus-RequestId", str(uuid4()).encode("ascii"))]
        try:
            socket._owe(Request(host=host, target=target, subprotocols=[SUBPROTOCOL], extra_headers=request_id))
        except (WsprotoError, ValueError) as error:
            raise ProtocolError(_NOT_HTTP) from error
        return socket

    @classmethod
    def accepted(cls, path: str) -> WebSocket:
        """The acceptor's end, which opens web sockets at `path` alone."""
        return cls(WSConnection(ConnectionType.SERVER), path)

    def receive_data(self, data: bytes) -> None:
        """Takes bytes that have arrived, once more was needed; `b""`: the peer has closed.  Raises `ProtocolError`."""
        if not data:
            if not self.opened:
                raise PeerClosed("the web server closed the connection instead of opening a web socket")
            self._ended = True
        if self._ended:
            return
        try:
            self._socket.receive_data(data)
        except (WsprotoError, ValueError) as error:
            self._ended = True
            if isinstance(hint := getattr(error, "event_hint", None), RejectConnection) and self._path is not None:
                self._owe(hint)
            raise UpgradeRefused(f"the answer is not one that opens a web socket: {error}") from error
        self._events = self._socket.events()

    def handshake(self) -> bool:
        """Whether the handshake is done; false until more has arrived.  Raises `ProtocolError` when it fails."""
        while not self.opened:
            event = next(self._events, None)
            if event is None:
                return False
            self._take(event)
        return True

    def next_piece(self) -> bytes | None:
        """The next bytes of Halibut, `None` until more has arrived, `b""` when there will be none.

        Raises `ProtocolError` when the peer breaks a rule.
        """
        while not self._ended:
            event = next(self._events, None)
            if event is None:
                return None
            piece = self._take(event)
            if piece:
                self._without_data = 0
                return piece
            self._without_data += 1
            if self._without_data > _MOST_WITHOUT_DATA:
                raise self._violation(CloseReason.POLICY_VIOLATION, "too many frames without data")
        return b""

    def owed(self) -> bytes:
        """What is to be sent without being asked for: our part of the handshake, the answer to a ping, a close."""
        if self._answer is not None and self._is(ConnectionState.OPEN):
            self._owe(self._answer)
        self._answer = None
        owed, self._owed = bytes(self._owed), bytearray()
        return owed

    def frame(self, data: bytes) -> bytes:
        """The frame that carries `data`, which must not be empty; a connector's first one is the preface."""
        if not self._greeted:
            self._greeted = True
            assert data == PREFACE, "a connector begins with the preface"
            return self._socket.send(TextMessage(data=HELLO))
        return self._socket.send(BytesMessage(data=data, message_finished=False))

    def keep_alive(self) -> bytes:
        """A frame that says that we are there and asks for nothing; empty when the socket is not open."""
        return self._socket.send(Pong()) if self._is(ConnectionState.OPEN) else b""

    def close(self) -> bytes:
        """The frame that ends what we send; empty when it has been sent or there is no web socket."""
        if not self._is(ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            return b""
        return self._socket.send(CloseConnection(code=CloseReason.NORMAL_CLOSURE, reason="Closing"))

    def _is(self, *states: ConnectionState) -> bool:
        return self.opened and self._socket.state in states

    def _owe(self, event: Event) -> None:
        self._owed += self._socket.send(event)

    def _take(self, event: Event) -> bytes:
        """The bytes of Halibut that an event brings, if any."""
        match event:
            case Request():
                self._open(event)
            case AcceptConnection():
                if event.subprotocol != SUBPROTOCOL:
                    self._ended = True
                    raise UpgradeRefused(f"the web server does not know the subprotocol {SUBPROTOCOL}")
                self.opened = True
            case RejectConnection():
                self._ended = True
                raise UpgradeRefused(f"the web server answered with HTTP status {event.status_code}", event.status_code)
            case TextMessage():
                return self._text(event)
            case BytesMessage():
                if self._hello is not None:
                    raise self._violation(CloseReason.UNSUPPORTED_DATA, f"the first message is not the text {HELLO}")
                return bytes(event.data)
            case Ping():
                # Only the last one has to be answered (RFC 6455, 5.5.3).
                self._answer = event.response()
            case CloseConnection():
                self._close(event)
        return b""

    def _open(self, request: Request) -> None:
        """Answers a request for a web socket."""
        status = 101
        if request.target.partition("?")[0].rstrip("/").lower() != (self._path or "").rstrip("/").lower():
            status = 404
        elif SUBPROTOCOL not in request.subprotocols:
            status = 400
        if status != 101:
            self._owe(RejectConnection(status_code=status))
            self._ended = True
            raise UpgradeRefused(f"a web socket was asked for with a wrong path or subprotocol ({status})", status)
        self._owe(AcceptConnection(subprotocol=SUBPROTOCOL))
        self.opened = True

    def _text(self, message: TextMessage) -> bytes:
        if self._hello is None:
            # The original's reader never looks at the kind of a message after the first one.
            return message.data.encode()
        self._hello += message.data
        if len(self._hello) > _LONGEST_HELLO:
            raise self._violation(CloseReason.MESSAGE_TOO_BIG, f"the first message is not the text {HELLO}")
        if not message.message_finished:
            return b""
        if not self._hello.startswith(HELLO):
            raise self._violation(CloseReason.PROTOCOL_ERROR, f"the first message is not the text {HELLO}")
        self._hello = None
        return PREFACE

    def _close(self, event: CloseConnection) -> None:
        if self._socket.state is ConnectionState.OPEN:
            # Not the peer closes: wsproto says so of frames that break its rules, and has stopped reading.
            raise self._violation(CloseReason(event.code), event.reason or "a frame that cannot be read")
        if self._socket.state is ConnectionState.REMOTE_CLOSING:
            received = CloseConnection(code=CloseReason.NORMAL_CLOSURE, reason="Close received")
            self._owe(event.response() if self._hello is None else received)
        self._ended = True

    def _violation(self, code: CloseReason, what: str) -> ProtocolError:
        self._ended = True
        if self._is(ConnectionState.OPEN):
            self._owe(CloseConnection(code=code, reason=what))
        return ProtocolError(f"the peer broke the rules of web sockets: {what}")


def asks_for_web_socket(head: bytes) -> bool | None:
    """Whether an HTTP request wants a web socket; `None` while its head has not arrived."""
    end = _HEAD_END.search(head)
    return None if end is None else _UPGRADE.search(head, 0, end.end()) is not None
