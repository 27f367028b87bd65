"""What a connection refuses, and that it refuses cleanly."""

from __future__ import annotations

import uuid
from typing import Any

import bson
import pytest
from bson.int64 import Int64
from hypothesis import given
from hypothesis import strategies as st

from tentacle.wire.connection import Connection
from tentacle.wire.envelope import deflate
from tentacle.wire.errors import LocalProtocolError, ProtocolError
from tentacle.wire.events import (
    Closed,
    End,
    Event,
    Identity,
    IdentityKind,
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
from tentacle.wire.messages import Request, Response, encode_message, guid
from tentacle.wire.rules import Role, State

HELLO = b"MX\n\nMX-CLIENT 1.0\r\n\r\n"
SMALL = Limits(
    control_line=64,
    preface=100,
    deflated_message=2000,
    inflated_message=10_000,
    streams_per_message=2,
    stream_length=100,
)
REQUEST = Request("id-1", "IService", "Method", ("x",))


def drain(connection: Connection) -> list[Event]:
    events = []
    while (event := connection.next_event()) is not None:
        events.append(event)
    return events


def identified(limits: Limits | None = None) -> Connection:
    """A listening service that expects its first request."""
    connection = Connection(Role.LISTENING_SERVICE, limits)
    connection.receive_data(HELLO)
    assert drain(connection) == [Preface(), Identity(IdentityKind.CLIENT)]
    assert connection.send(Identity(IdentityKind.SERVER)) == [b"MX-SERVER 1.0\r\n\r\n"]
    return connection


def request_with(*params: Any) -> bytes:
    return deflate(encode_message(Request("id-1", "IService", "Method", params)))


def refused(connection: Connection, data: bytes) -> str:
    """Feeds `data` and expects a clean protocol error; afterwards the connection stays closed and silent."""
    with pytest.raises(ProtocolError) as caught:
        connection.receive_data(data)
        drain(connection)
    assert connection.state is State.CLOSED
    connection.receive_data(b"more")
    assert connection.next_event() is None
    assert len(str(caught.value)) < 200
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"MX" + b"x" * 200,
        b"MX\n\nMX-NOBODY 1.0\r\n\r\n",
        b"MX\n\nMX-SERVER 1.0\r\n\r\n",
        b"MX\n\nMX-SUBSCRIBER 1.0 poll://abc/\r\n\r\n",
        b"MX\n\n" + b"A" * 100,
    ],
)
def test_a_bad_beginning_is_refused(data: bytes) -> None:
    refused(Connection(Role.LISTENING_SERVICE, SMALL), data)


@pytest.mark.parametrize("line", [b"NOPE\r\n", b"PROCEED\r\n", b"N" * 100])
def test_a_control_line_that_is_not_expected_is_refused(line: bytes) -> None:
    connection = served(identified(SMALL))
    refused(connection, line)


def served(connection: Connection) -> Connection:
    connection.receive_data(request_with("x"))
    (event,) = drain(connection)
    assert isinstance(event, RequestEvent)
    connection.send(ResponseEvent(Response(event.request.id)))
    return connection


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        deflate(b"\x04\x00\x00\x00"),
        deflate(bson.encode({"Message": "text"})),
        deflate(b"\0" * 20_000),
        deflate(encode_message(Response("id"))),
        deflate(encode_message(None))[:-1] + b"\xff",
    ],
)
def test_a_bad_message_is_refused(data: bytes) -> None:
    refused(identified(SMALL), data)


def test_the_peer_may_close_between_two_exchanges_only() -> None:
    connection = served(identified())
    connection.receive_data(b"")
    assert drain(connection) == [Closed()]
    for data in (b"", request_with("x")[:5]):
        unfinished = Connection(Role.LISTENING_SERVICE)
        unfinished.receive_data(HELLO)
        drain(unfinished)
        unfinished.send(Identity(IdentityKind.SERVER))
        unfinished.receive_data(data)
        if data:
            refused(unfinished, b"")
        else:
            assert drain(unfinished) == [Closed()]


# --- data streams ------------------------------------------------------------------------------------------------

STREAM_ID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


def stream_document(identity: uuid.UUID, length: int) -> dict[str, Any]:
    return {"$type": "Halibut.DataStream, Halibut", "id": guid(identity), "length": Int64(length)}


def block(identity: uuid.UUID, data: bytes, length: int | None = None, again: int | None = None) -> bytes:
    length = len(data) if length is None else length
    head = identity.bytes_le + length.to_bytes(8, "little", signed=True)
    return head + data + (length if again is None else again).to_bytes(8, "little", signed=True)


@pytest.mark.parametrize(
    "blocks",
    [
        block(uuid.uuid4(), b"abc"),
        block(STREAM_ID, b"abcd"),
        block(STREAM_ID, b"abc", again=4),
        block(STREAM_ID, b"abc") + block(STREAM_ID, b"abc"),
    ],
    ids=["unknown", "longer", "trailer", "twice"],
)
def test_a_stream_that_is_not_what_was_announced_is_refused(blocks: bytes) -> None:
    connection = identified(SMALL)
    connection.receive_data(request_with(stream_document(STREAM_ID, 3)))
    if len(blocks) > 40:
        connection.receive_data(blocks)
        events = [connection.next_event() for _ in range(4)]
        assert events[-1] == StreamEnd()
        assert connection.send(ResponseEvent(Response("id-1")))
        refused(connection, b"")
    else:
        refused(connection, blocks)


@pytest.mark.parametrize("lengths", [[-1], [101], [1, 1, 1]])
def test_an_announcement_beyond_the_limits_is_refused(lengths: list[int]) -> None:
    documents = [stream_document(uuid.uuid4(), length) for length in lengths]
    refused(identified(SMALL), request_with(*documents))


def test_streams_follow_their_request_in_any_order() -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    connection = identified()
    connection.receive_data(request_with(stream_document(first, 0), [{"c": stream_document(second, 2)}]))
    connection.receive_data(block(second, b"ab") + block(first, b""))
    assert drain(connection)[1:] == [
        StreamBegin(second, 2),
        StreamChunk(b"ab"),
        StreamEnd(),
        StreamBegin(first, 0),
        StreamEnd(),
    ]


def test_we_cannot_send_what_we_did_not_announce() -> None:
    connection = identified()
    connection.receive_data(request_with("x"))
    drain(connection)
    with pytest.raises(LocalProtocolError):
        connection.send(StreamBegin(STREAM_ID, 1))
    connection.send(ResponseEvent(Response("id-1", stream_document(STREAM_ID, 2))))
    for wrong in (StreamBegin(STREAM_ID, 3), StreamChunk(b"x"), StreamEnd(), Proceed()):
        with pytest.raises(LocalProtocolError):
            connection.send(wrong)
    connection.send(StreamBegin(STREAM_ID, 2))
    with pytest.raises(LocalProtocolError):
        connection.send(StreamChunk(b"xyz"))
    connection.send(StreamChunk(b"xy"))
    assert connection.send(StreamEnd()) == [(2).to_bytes(8, "little")]


# --- turns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
def test_nothing_can_be_sent_out_of_turn(role: Role) -> None:
    connection = Connection(role)
    for event in (Next(), Proceed(), End(), Nothing(), RequestEvent(REQUEST), ResponseEvent(Response("x")), Closed()):
        with pytest.raises(LocalProtocolError):
            connection.send(event)


def test_the_empty_message_is_the_specified_one() -> None:
    """docs/spec/wire.md, "Worked bytes"."""
    connection = Connection(Role.POLLING_CLIENT)
    connection.receive_data(b"MX\n\nMX-SUBSCRIBER 1.0 poll://abc/\r\n\r\n")
    drain(connection)
    connection.send(Identity(IdentityKind.SERVER))
    (record,) = connection.send(Nothing())
    assert record.hex() == "e3636060e0f24d2d2e4e4c4f65600000"


@given(st.binary(max_size=300), st.integers(1, 64))
def test_no_bytes_whatsoever_do_more_than_a_protocol_error(data: bytes, chunk: int) -> None:
    for prefix in (b"", b"MX\n\n", HELLO):
        for role in (Role.LISTENING_SERVICE, Role.POLLING_CLIENT):
            connection = Connection(role, SMALL)
            try:
                for start in range(0, len(prefix + data), chunk):
                    connection.receive_data((prefix + data)[start : start + chunk])
                    for event in drain(connection):
                        if isinstance(event, Identity):
                            connection.send(Identity(IdentityKind.SERVER))
            except ProtocolError:
                assert connection.state is State.CLOSED


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8).filter(lambda k: "\0" not in k), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(_JSON, max_size=4), st.text(max_size=30), st.integers(1, 200))
def test_any_request_arrives_as_it_was_sent(params: list[Any], identity: str, chunk: int) -> None:
    sender = Connection(Role.LISTENING_CLIENT)
    sender.send(Preface())
    sender.send(Identity(IdentityKind.CLIENT))
    sender.receive_data(b"MX-SERVER 1.0\r\n\r\n")
    drain(sender)
    request = Request(identity, "IService", "Method", tuple(params), uuid.uuid4(), {"BaseUri": "poll://x/"})
    data = b"".join(sender.send(RequestEvent(request)))
    receiver = identified()
    events: list[Event] = []
    for start in range(0, len(data), chunk):
        receiver.receive_data(data[start : start + chunk])
        events += drain(receiver)
    assert events == [RequestEvent(request)]


# --- what a message may take -------------------------------------------------------------------------------------


def test_a_long_message_waits_for_memory_before_it_is_unfolded_further() -> None:
    connection = identified()
    connection.allowed = 100_000
    request = Request("id-1", "IService", "Method", ("x" * 1_000_000,))
    connection.receive_data(deflate(encode_message(request)) + HELLO)
    assert connection.next_event() is None
    assert connection.wanted == 200_000
    steps = 0
    while (event := connection.next_event()) is None:
        assert connection.wanted is not None
        assert connection.wanted > connection.allowed
        connection.allowed, steps = connection.wanted, steps + 1
    assert event == RequestEvent(request)
    assert 2_000_000 < connection.allowed < 6_000_000
    assert steps < 10
    assert connection.wanted is None


def test_a_short_message_of_many_values_waits_for_memory_too() -> None:
    connection = identified()
    connection.allowed = 64 * 1024
    connection.receive_data(deflate(encode_message(Request("id-1", "IService", "Method", ([{}] * 2000,)))))
    assert connection.next_event() is None
    assert connection.wanted is not None
    assert connection.wanted > 300_000
    connection.allowed = connection.wanted
    assert isinstance(connection.next_event(), RequestEvent)


def test_a_message_of_too_many_values_is_refused_before_all_of_it_is_unfolded() -> None:
    connection = identified(Limits(elements=1000))
    connection.allowed = 64 * 1024
    connection.receive_data(deflate(encode_message(Request("id-1", "IService", "Method", ([{}] * 1_000_000,)))))
    with pytest.raises(ProtocolError, match="a message with more than 1000 values"):
        connection.next_event()
    assert connection.state is State.CLOSED
