"""Connections of the lean client: plain TLS sockets that block, and as much of the wire as a call needs.

Each is one `Line`.  Who dials an agent and who is polled by one differ only in how a line becomes ready for a request.
Nagle's algorithm stays on, and each piece is written on its own, as the original's client does.
"""

from __future__ import annotations

import queue
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from benchmarks.neighbours import untrusting
from tentacle.wire.control import encode_control, encode_identity
from tentacle.wire.envelope import deflate
from tentacle.wire.events import Identity, IdentityKind, Next, Proceed
from tentacle.wire.messages import encode_message
from tentacle.wire.preface import PREFACE

NEXT, PROCEED = encode_control(Next()), encode_control(Proceed())
CLIENT, SERVER = (encode_identity(Identity(kind)) for kind in (IdentityKind.CLIENT, IdentityKind.SERVER))
NOTHING = deflate(encode_message(None))
PATIENCE, BEAT, KEPT = 60, 20.0, 300.0
"""Seconds: for one read or write; after which a poller hears that there is nothing to do; for which a line is kept."""
_RECORD, _PIECE = 16 * 1024, 1024 * 1024
_LENGTH = struct.Struct("<q")


class LeanError(Exception):
    """The agent did not answer what a benchmark needs to go on."""


class Line:
    """One connection.  Every method raises `LeanError` or `OSError` when the agent says something else or nothing."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        sock.settimeout(PATIENCE)
        self._sock = sock
        self._rest = b""
        self.say = sock.sendall
        self.close = sock.close
        self.since = time.monotonic()

    def expect(self, what: bytes) -> None:
        if (found := self.exactly(len(what))) != what:
            raise LeanError(f"{what!r} was due, and {found!r} came")

    def exactly(self, count: int) -> bytes:
        while len(self._rest) < count:
            self._rest += self._some()
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def line(self) -> bytes:
        """What comes before the next empty line."""
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            self._rest += self._some()
        taken, self._rest = self._rest[:end], self._rest[end + 4 :]
        return taken

    def message(self) -> bytes:
        """The BSON of the next message."""
        inflate, plain = zlib.decompressobj(-15), b""
        data, self._rest = self._rest or self._some(), b""
        while True:
            plain += inflate.decompress(data)
            if inflate.eof:
                self._rest = inflate.unused_data
                return plain
            data = self._some()

    def send_stream(self, identity: bytes, path: Path, length: int) -> None:
        """Sends a file as a data stream."""
        around = _LENGTH.pack(length)
        self.say(identity)
        self.say(around)
        piece = memoryview(bytearray(min(length, _PIECE)))
        with path.open("rb", buffering=0) as file:
            while length and (size := file.readinto(piece[: min(length, _PIECE)])):
                self.say(piece[:size])
                length -= size
        if length:
            raise LeanError(f"{path} is shorter than it was")
        self.say(around)

    def take_stream(self, identity: bytes, length: int) -> None:
        """Receives a data stream, and throws its bytes away."""
        around = _LENGTH.pack(length)
        self.expect(identity + around)
        left = length - len(self._rest[:length])
        self._rest = self._rest[length:]
        piece = memoryview(bytearray(min(left, _PIECE)))
        while left:
            size = self._sock.recv_into(piece[: min(left, _PIECE)])
            if not size:
                raise LeanError("the connection ended within a file")
            left -= size
        self.expect(around)

    def _some(self) -> bytes:
        data = self._sock.recv(_RECORD)
        if not data:
            raise LeanError("the agent closed the connection")
        return data


class Lines(Protocol):
    """The connections with one agent, for any number of threads."""

    @contextmanager
    def ready(self) -> Iterator[Line]:
        """One on which a request may be sent; it is kept for the next one if all goes well."""


class Dialled:
    """With an agent that listens: as many as there are calls at once."""

    def __init__(self, port: int, pem: Path) -> None:
        """`pem` has the server's certificate and its key.  That of the agent is not looked at."""
        self._port = port
        self._context = untrusting()
        self._context.load_cert_chain(pem)
        self._idle: list[Line] = []

    @contextmanager
    def ready(self) -> Iterator[Line]:
        line = self._kept() or self._dialled()
        try:
            yield line
        except BaseException:
            line.close()
            raise
        line.since = time.monotonic()
        self._idle.append(line)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> Line | None:
        with suppress(IndexError):
            while True:
                line = self._idle.pop()
                if time.monotonic() - line.since < KEPT:
                    line.say(NEXT)
                    line.expect(PROCEED)
                    return line
                line.close()
        return None

    def _dialled(self) -> Line:
        line = Line(self._context.wrap_socket(socket.create_connection(("127.0.0.1", self._port))))
        line.say(PREFACE)
        line.say(CLIENT)
        line.expect(SERVER)
        return line


class Polled:
    """With an agent that polls: as many as it opens.  A thread accepts them, and says now and then that there is
    nothing to do, as an agent hangs up that hears nothing for a minute.
    """

    def __init__(self, pem: Path, beat: float = BEAT) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._context.num_tickets = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(beat)
        self.port = int(self._listener.getsockname()[1])
        self._idle: queue.SimpleQueue[Line] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @contextmanager
    def ready(self) -> Iterator[Line]:
        try:
            line = self._idle.get(timeout=PATIENCE)
        except queue.Empty:
            raise LeanError("the agent does not poll") from None
        try:
            yield line
            self._goes_on(line)
        except BaseException:
            line.close()
            raise

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _goes_on(self, line: Line) -> None:
        line.expect(NEXT)
        line.say(PROCEED)
        self._idle.put(line)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                self._say_nothing()
            except OSError:
                return
            else:
                self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        line = Line(self._context.wrap_socket(sock, server_side=True))
        line.expect(PREFACE)
        if not line.line().startswith(IdentityKind.SUBSCRIBER.value.encode()):
            raise LeanError("somebody came who does not poll")
        line.say(SERVER)
        self._idle.put(line)

    def _say_nothing(self) -> None:
        for _ in range(self._idle.qsize()):
            with suppress(queue.Empty):
                line = self._idle.get_nowait()
                line.say(NOTHING)
                self._goes_on(line)
