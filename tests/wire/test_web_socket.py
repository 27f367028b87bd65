"""WebSockets that carry Halibut: both ends against each other, cut in every way, and peers that break the rules."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.wire.errors import PeerClosed, ProtocolError
from tentacle.wire.preface import PREFACE
from tentacle.wire.web_socket import UpgradeRefused, WebSocket, asks_for_web_socket

PATH = "/OctopusComms"
PIECES = (PREFACE, b"MX-SUBSCRIBER 1.0 poll://x/\r\n\r\n", b"x" * 200, b"y" * 70_000, b"NEXT\r\n")
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def opened(host: str = "octopus", target: str = PATH) -> tuple[WebSocket, WebSocket]:
    connector, acceptor = WebSocket.dialled(host, target), WebSocket.accepted(PATH)
    acceptor.receive_data(connector.owed())
    assert acceptor.handshake()
    connector.receive_data(acceptor.owed())
    assert connector.handshake()
    return connector, acceptor


def read(socket: WebSocket, chunks: Iterable[bytes]) -> bytes:
    """What `socket` makes of the chunks, which must not end it."""
    found = b""
    for chunk in chunks:
        socket.receive_data(chunk)
        while (piece := socket.next_piece()) is not None:
            assert piece, "it is over"
            found += piece
    return found


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def frame(
    payload: bytes = b"",
    opcode: int = BINARY,
    *,
    fin: bool = False,
    masked: bool = False,
    rsv: int = 0,
    length: int = -1,
) -> bytes:
    """A frame as somebody else writes it; `length` is what it says of itself."""
    size = len(payload) if length < 0 else length
    first, mask = bytes([fin << 7 | rsv << 4 | opcode]), masked << 7
    if size < 126:
        head = first + bytes([mask | size])
    elif size < 65536:
        head = first + bytes([mask | 126]) + struct.pack("!H", size)
    else:
        head = first + bytes([mask | 127]) + struct.pack("!Q", size)
    return head + (bytes(4) if masked else b"") + payload


def parsed(data: bytes) -> tuple[bool, int, bytes]:
    """FIN, opcode and payload of a single frame of ours, which is short."""
    size, masked = data[1] & 127, data[1] >> 7
    start = 2
    if size == 126:
        (size,) = struct.unpack_from("!H", data, 2)
        start = 4
    key = data[start : start + 4] if masked else bytes(4)
    payload = data[start + 4 * masked :]
    assert len(payload) == size
    return bool(data[0] >> 7), data[0] & 15, bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


# The handshake.


def test_the_request_is_that_of_the_original() -> None:
    head = WebSocket.dialled("octopus:8443", "/OctopusComms?a=b").owed().decode()
    lines = head.split("\r\n")
    assert lines[0] == "GET /OctopusComms?a=b HTTP/1.1"
    assert "Host: octopus:8443" in lines
    assert "Sec-WebSocket-Protocol: Octopus" in lines
    assert "Sec-WebSocket-Version: 13" in lines
    assert any(line.startswith("X-Octopus-RequestId: ") and len(line) == 57 for line in lines)
    assert "Sec-WebSocket-Extensions" not in head
    assert asks_for_web_socket(head.encode()) is True


@given(st.integers(1, 400))
def test_a_handshake_may_arrive_in_pieces(size: int) -> None:
    connector, acceptor = WebSocket.dialled("octopus", PATH), WebSocket.accepted("/octopuscomms/")
    for socket, sent in ((acceptor, connector.owed()), (connector, b"")):
        data = sent or acceptor.owed()
        for chunk in cut(data, size):
            assert not socket.handshake()
            socket.receive_data(chunk)
        assert socket.handshake()


def test_what_comes_along_with_the_handshake_is_not_lost() -> None:
    connector, acceptor = WebSocket.dialled("octopus", PATH), WebSocket.accepted(PATH)
    acceptor.receive_data(connector.owed())
    assert acceptor.handshake()
    connector.receive_data(acceptor.owed() + acceptor.frame(b"MX-SERVER 1.0\r\n\r\n"))
    assert connector.handshake()
    assert connector.next_piece() == b"MX-SERVER 1.0\r\n\r\n"


ANSWER = "HTTP/1.1 {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{}\r\n"


@pytest.mark.parametrize(
    ("answer", "said", "status"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP status 404", 404),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", "HTTP status 302", 302),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP status 103", 103),
        (ANSWER.format("101 Y", "Sec-WebSocket-Accept: x\r\n").encode(), "Bad accept token", None),
        (b"HTTP/1.1 101 Y\r\nUpgrade: websocket\r\n\r\n", "Connection: Upgrade", None),
        (b"HTTP/1.1 101 Y\r\nConnection: upgrade\r\nUpgrade: \xff\r\n\r\n", "Missing header", None),
        (ANSWER.format("101 Y", "Sec-WebSocket-Protocol: \xe4\r\n").encode("latin-1"), "not one that opens", None),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "Bad HTTP message", None),
        (b"HTTP/1.1 101 " + b"x" * 200_000, "Bad HTTP message", None),
    ],
)
def test_an_answer_that_opens_none(answer: bytes, said: str, status: int | None) -> None:
    connector = WebSocket.dialled("octopus", PATH)
    with pytest.raises(UpgradeRefused, match=said) as refused:
        connector.receive_data(answer)
        connector.handshake()
    assert refused.value.status == status
    assert connector.next_piece() == b""


def answered(connector: WebSocket, change: tuple[bytes, bytes]) -> bytes:
    """The acceptor's answer, changed."""
    acceptor = WebSocket.accepted(PATH)
    acceptor.receive_data(connector.owed())
    assert acceptor.handshake()
    return acceptor.owed().replace(*change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((b"Sec-WebSocket-Protocol: Octopus\r\n", b""), "subprotocol Octopus"),
        ((b"Protocol: Octopus", b"Protocol: chat"), "unrecognized subprotocol chat"),
        ((b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"), "extension permessage-deflate"),
    ],
)
def test_an_answer_with_what_was_not_asked_for(change: tuple[bytes, bytes], said: str) -> None:
    connector = WebSocket.dialled("octopus", PATH)
    answer = answered(connector, change)
    with pytest.raises(UpgradeRefused, match=said):
        connector.receive_data(answer)
        connector.handshake()


def test_a_server_that_hangs_up_instead() -> None:
    with pytest.raises(PeerClosed, match="instead of opening a web socket"):
        WebSocket.dialled("octopus", PATH).receive_data(b"")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"/OctopusComms", b"/else"), 404),
        ((b"Sec-WebSocket-Protocol: Octopus\r\n", b""), 400),
        ((b"Protocol: Octopus", b"Protocol: chat"), 400),
        ((b"Version: 13", b"Version: 8"), 426),
        ((b"GET", b"PUT"), 400),
        ((b"Host: octopus\r\n", b""), 400),
        ((b"Host: octopus", b"Host: \xff"), 400),
    ],
)
def test_a_request_that_is_refused(change: tuple[bytes, bytes], status: int) -> None:
    acceptor = WebSocket.accepted(PATH)
    with pytest.raises(UpgradeRefused):
        acceptor.receive_data(WebSocket.dialled("octopus", PATH).owed().replace(*change))
        acceptor.handshake()
    owed = acceptor.owed()
    assert owed.startswith(f"HTTP/1.1 {status} ".encode()) or (not owed and change[1].endswith(b"\xff"))
    assert acceptor.next_piece() == b""


def test_an_offer_to_compress_is_not_taken() -> None:
    acceptor = WebSocket.accepted(PATH)
    offer = b"\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    acceptor.receive_data(WebSocket.dialled("octopus", PATH).owed().replace(b"\r\n\r\n", offer))
    assert acceptor.handshake()
    assert b"Extensions" not in acceptor.owed()


@pytest.mark.parametrize(
    ("head", "asks"),
    [
        (b"GET / HTTP/1.1\r\nUpgrade: WebSocket\r\n\r\n", True),
        (b"GET / HTTP/1.1\nupgrade:websocket\n\n", True),
        (b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\nUpgrade: websocket\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n", None),
        (b"", None),
    ],
)
def test_who_asks_for_one(head: bytes, asks: bool | None) -> None:
    assert asks_for_web_socket(head) is asks


def test_an_address_that_http_cannot_say() -> None:
    for host, target in (("o", "/\u00e4"), ("o", "/a b"), ("o\r\nX: y", "/"), ("x" * 70, "/")):
        with pytest.raises(ProtocolError, match="characters that HTTP does not know"):
            WebSocket.dialled(host, target)


# Frames.


def test_frames_are_those_of_the_original() -> None:
    connector, acceptor = opened()
    assert parsed(connector.frame(PREFACE)) == (True, TEXT, b"MX")
    assert parsed(connector.frame(b"one")) == (False, BINARY, b"one")
    assert parsed(connector.frame(b"two")) == (False, CONTINUATION, b"two")
    assert acceptor.frame(b"one") == frame(b"one")
    assert acceptor.frame(b"two" * 100) == frame(b"two" * 100, CONTINUATION)


@pytest.mark.parametrize("size", [*range(1, 40), 125, 126, 127, 4096, 65536, 10**6])
def test_every_piece_arrives_however_it_is_cut(size: int) -> None:
    connector, acceptor = opened()
    sent = b"".join(map(connector.frame, PIECES))
    assert read(acceptor, cut(sent, size)) == b"".join(PIECES)
    back = b"".join(map(acceptor.frame, PIECES[1:]))
    assert read(connector, cut(back, size)) == b"".join(PIECES[1:])


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    st.lists(st.sampled_from(["ping", "pong", "empty"]), max_size=8),
    st.integers(1, 500),
    st.randoms(use_true_random=False),
)
def test_what_is_between_the_frames_changes_nothing(
    pieces: list[bytes], between: list[str], size: int, random: object
) -> None:
    connector, _ = opened()
    kinds = {
        "ping": frame(b"p", PING, fin=True),
        "pong": frame(b"", PONG, fin=True),
        "empty": frame(b"", CONTINUATION),
    }
    sent = frame(b"first")
    for number, piece in enumerate(pieces):
        sent += frame(piece, CONTINUATION) + (kinds[between[number]] if number < len(between) else b"")
    assert read(connector, cut(sent, size)) == b"first" + b"".join(pieces)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=50), st.booleans()), min_size=1, max_size=6))
def test_whole_messages_are_read_too(messages: list[tuple[bytes, bool]]) -> None:
    connector, _ = opened()
    sent = b"".join(frame(data, BINARY, fin=True) for data, _ in messages)
    assert read(connector, [sent]) == b"".join(data for data, _ in messages)


@given(st.binary(max_size=400))
def test_rubbish_is_an_error_or_data_and_nothing_else(data: bytes) -> None:
    for socket in opened():
        try:
            socket.receive_data(data)
            while socket.next_piece():
                pass
        except ProtocolError:
            assert socket.next_piece() == b""
        socket.owed()


@given(
    st.binary(max_size=100) | st.sampled_from([b"GET / HTTP/1.1\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n"]),
    st.binary(max_size=100),
    st.integers(1, 100),
)
def test_rubbish_instead_of_a_handshake_is_an_error_and_nothing_else(one: bytes, other: bytes, size: int) -> None:
    for socket in (WebSocket.dialled("octopus", PATH), WebSocket.accepted(PATH)):
        try:
            for chunk in cut(one + other, size):
                socket.receive_data(chunk)
                assert not socket.handshake()
        except ProtocolError:
            assert socket.next_piece() == b""
        socket.owed()


@pytest.mark.parametrize("text", [b"MX", b"MX and more"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_connector_begins_with_a_text(text: bytes, pieces: int) -> None:
    _, acceptor = opened()
    sent = (
        frame(text, TEXT, fin=True, masked=True)
        if pieces == 1
        else frame(text[:1], TEXT, masked=True) + frame(text[1:], CONTINUATION, fin=True, masked=True)
    )
    assert read(acceptor, cut(sent, 1)) == PREFACE


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (frame(b"MX\n\n", BINARY, masked=True), 1003),
        (frame(b"HELLO", TEXT, fin=True, masked=True), 1002),
        (frame(b"", TEXT, fin=True, masked=True), 1002),
        (frame(b"MX" + b"x" * 2000, TEXT, masked=True), 1009),
        (frame(b"\xff\xff", TEXT, fin=True, masked=True), 1007),
        (frame(b"MX", TEXT, fin=True), 1002),
    ],
    ids=["binary", "another word", "nothing", "no end", "no text", "not masked"],
)
def test_another_beginning_is_refused(first: bytes, code: int) -> None:
    _, acceptor = opened()
    acceptor.receive_data(first)
    with pytest.raises(ProtocolError, match="rules of web sockets"):
        acceptor.next_piece()
    _, opcode, payload = parsed(acceptor.owed())
    assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", code))
    assert acceptor.next_piece() == b""
    assert acceptor.owed() == b""


@pytest.mark.parametrize(
    "bad",
    [
        frame(b"x", masked=True),
        frame(b"x", rsv=4),
        frame(b"x", 3),
        frame(b"x", 11, fin=True),
        frame(b"x", CONTINUATION),
        frame(b"x", PING),
        frame(b"x" * 126, PING, fin=True),
        frame(b"x", CLOSE, fin=True),
        frame(struct.pack("!H", 1005), CLOSE, fin=True),
        frame(b"", length=2**63),
        frame(b"one") + frame(b"two"),
    ],
    ids=["masked", "compressed", "kind 3", "kind 11", "no beginning", "half a ping", "long ping", "half a code",
         "no code", "2^63 bytes", "a second beginning"],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 1000])
def test_a_server_that_breaks_the_rules(bad: bytes, size: int) -> None:
    connector, _ = opened()
    with pytest.raises(ProtocolError, match="rules of web sockets"):
        read(connector, cut(bad, size))
    assert parsed(connector.owed())[1] == CLOSE
    connector.receive_data(b"more")
    assert connector.next_piece() == b""


def test_a_frame_as_long_as_it_may_be_is_never_collected() -> None:
    connector, _ = opened()
    connector.receive_data(frame(b"", length=2**63 - 1))
    for _ in range(200):
        assert read(connector, [b"x" * 65536]) == b"x" * 65536
    decoder = connector._socket.connection._proto._frame_decoder  # type: ignore[union-attr]
    assert len(decoder.buffer) == 0


@pytest.mark.parametrize("kind", [frame(b"p" * 125, PING, fin=True), frame(b"", PONG, fin=True), frame(b"")])
def test_a_flood_of_frames_without_data_ends_it(kind: bytes) -> None:
    connector, _ = opened()
    rest = kind if kind[0] & 8 else frame(b"", CONTINUATION)
    connector.receive_data(kind + rest * 5000)
    with pytest.raises(ProtocolError, match="too many frames without data"):
        connector.next_piece()
    assert len(connector.owed()) < 400, "one answer, and the close"


def test_a_ping_is_answered_and_only_the_last_one_of_many() -> None:
    connector, acceptor = opened()
    assert read(acceptor, [frame(b"MX", TEXT, fin=True, masked=True)]) == PREFACE
    acceptor.receive_data(frame(b"one", PING, fin=True, masked=True) + frame(b"two", PING, fin=True, masked=True))
    assert acceptor.next_piece() is None
    assert acceptor.owed() == frame(b"two", PONG, fin=True)
    assert acceptor.owed() == b""
    assert parsed(connector.keep_alive()) == (True, PONG, b"")


# The end.


def test_a_close_is_the_end_and_answered() -> None:
    connector, acceptor = opened()
    sent = connector.frame(PREFACE) + connector.frame(b"END\r\n") + connector.close()
    acceptor.receive_data(sent)
    assert acceptor.next_piece() == PREFACE
    assert acceptor.next_piece() == b"END\r\n"
    assert acceptor.next_piece() == b""
    answer = acceptor.owed()
    assert answer == frame(struct.pack("!H", 1000) + b"Closing", CLOSE, fin=True)
    connector.receive_data(answer)
    assert connector.next_piece() == b""
    assert (connector.close(), acceptor.close(), connector.owed(), acceptor.keep_alive()) == (b"", b"", b"", b"")


def test_a_close_before_the_first_word_is_answered_as_the_original_does() -> None:
    connector, acceptor = opened()
    acceptor.receive_data(connector.close())
    assert acceptor.next_piece() == b""
    assert acceptor.owed() == frame(struct.pack("!H", 1000) + b"Close received", CLOSE, fin=True)


def test_a_connection_that_breaks_is_the_end() -> None:
    connector, _ = opened()
    connector.receive_data(frame(b"half", length=100))
    assert connector.next_piece() == b"half"
    connector.receive_data(b"")
    assert connector.next_piece() == b""
