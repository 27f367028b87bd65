"""What a connection refuses, and that it refuses cleanly."""

from __future__ import annotations

import uuid
import zlib
from typing import Any

import bson
import pytest
from bson.int64 import Int64
from hypothesis import given
from hypothesis import strategies as st

from tentacle.wire.connection import Connection
from tentacle.wire.envelope import deflate, split_for_records
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
from tentacle.wire.messages import REQUEST_TYPE, Request, Response, ServerError, encode_message, guid
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


def message(body: Any) -> bytes:
    return deflate(bson.encode({"Message": body}))


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
    "preface", [b"MX\n\n", b"MX\r\n\r\n", b"MX\n\r\n", b"MX and more\n\n"], ids=["lf", "crlf", "mixed", "words"]
)
def test_every_form_of_the_preface(preface: bytes) -> None:
    connection = Connection(Role.LISTENING_SERVICE)
    connection.receive_data(preface + b"MX-CLIENT 1.0\r\n\r\n")
    assert drain(connection) == [Preface(), Identity(IdentityKind.CLIENT)]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"MX" + b"x" * 200,
        b"MX\n\nMX-NOBODY 1.0\r\n\r\n",
        b"MX\n\n\r\n\r\n",
        b"MX\n\nMX-CLIENT 1.0\r\nmore\r\n",
        b"MX\n\nMX-CLIENT 1.0\rx",
        b"MX\n\nMX-SERVER 1.0\r\n\r\n",
        b"MX\n\nMX-SUBSCRIBER 1.0 poll://abc/\r\n\r\n",
        b"MX\n\nMX-SUBSCRIBER 1.0\r\n\r\n",
        b"MX\n\n" + b"A" * 100,
    ],
)
def test_a_bad_beginning_is_refused(data: bytes) -> None:
    refused(Connection(Role.LISTENING_SERVICE, SMALL), data)


@pytest.mark.parametrize("subscription", [b"nonsense", b"poll:", b"poll://\xff/"])
def test_a_subscription_that_is_no_uri_is_refused(subscription: bytes) -> None:
    refused(Connection(Role.POLLING_CLIENT), b"MX\n\nMX-SUBSCRIBER 1.0 " + subscription + b"\r\n\r\n")


def test_a_subscription_is_normalised_as_dotnet_does() -> None:
    connection = Connection(Role.POLLING_CLIENT)
    connection.receive_data(b"MX\n\nMX-SUBSCRIBER 1.0 poll://SQ-TENTAPOLL\r\n\r\n")
    assert drain(connection)[1] == Identity(IdentityKind.SUBSCRIBER, "poll://sq-tentapoll/")


@pytest.mark.parametrize("line", [b"NOPE\r\n", b"next\r\n", b" NEXT\r\n", b"NEXT\rX", b"N" * 100])
def test_a_bad_control_line_is_refused(line: bytes) -> None:
    connection = served(identified(SMALL))
    refused(connection, line)


def served(connection: Connection) -> Connection:
    connection.receive_data(request_with("x"))
    (event,) = drain(connection)
    assert isinstance(event, RequestEvent)
    connection.send(ResponseEvent(Response(event.request.id)))
    return connection


def test_empty_lines_before_a_control_line_are_skipped() -> None:
    connection = served(identified())
    connection.receive_data(b"\r\n\r\nNEXT\r\n")
    assert drain(connection) == [Next()]


def test_a_deflate_tail_that_comes_late_belongs_to_the_message() -> None:
    """Halibut 3.x sends a last empty block in a record of its own (docs/spec/wire.md, "Message framing")."""
    compressor = zlib.compressobj(wbits=-15)
    head = compressor.compress(encode_message(REQUEST)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    connection = identified()
    connection.receive_data(head)
    assert drain(connection) == []
    connection.receive_data(compressor.flush())
    assert drain(connection) == [RequestEvent(REQUEST)]
    assert connection.between_elements


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        deflate(b""),
        deflate(b"\x04\x00\x00\x00"),
        deflate(b"\xff\xff\xff\x7f" + b"x" * 20),
        deflate(b"\x14\x00\x00\x00" + b"\xff" * 16),
        message("text"),
        message(["list"]),
        deflate(bson.encode({"Other": 1})),
        message({"$type": "System.Diagnostics.Process, System", "id": "x"}),
        message({"$type": REQUEST_TYPE, "id": 1, "service": "s", "method": "m"}),
        message({"$type": REQUEST_TYPE, "id": "1", "service": "s", "method": "m", "params": "x"}),
        deflate(encode_message(Response("id"))),
        deflate(b"\0" * 20_000),
        zlib.compressobj(0, wbits=-15).compress(b"x" * 5000) + b"y" * 5000,
    ],
)
def test_a_bad_message_is_refused(data: bytes) -> None:
    refused(identified(SMALL), data)


def test_endless_empty_blocks_are_refused() -> None:
    """A deflate stream may go on for ever without giving a single byte."""
    refused(identified(SMALL), b"\x00\x00\x00\xff\xff" * 1000)


@pytest.mark.parametrize("depth", [70, 5000, 200_000])
def test_nesting_is_bounded(depth: int) -> None:
    refused(identified(Limits()), deflate(nest(depth)))


def nest(depth: int) -> bytes:
    """The BSON of `depth` documents inside each other, made without recursion."""
    heads, length = [], 5
    for _ in range(depth):
        length += 4 + 3 + 1
        heads.append(length.to_bytes(4, "little") + b"\x03a\x00")
    return b"".join(reversed(heads)) + b"\x05\x00\x00\x00\x00" + b"\x00" * depth


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


def test_a_block_is_written_as_the_specification_shows() -> None:
    """docs/spec/wire.md, "Worked bytes"."""
    connection = identified()
    connection.receive_data(request_with("x"))
    drain(connection)
    connection.send(ResponseEvent(Response("id-1", stream_document(STREAM_ID, 5))))
    sent = [connection.send(e) for e in (StreamBegin(STREAM_ID, 5), StreamChunk(b"hello"), StreamEnd())]
    assert b"".join(b"".join(s) for s in sent).hex() == (
        "33221100554477668899aabbccddeeff" + "0500000000000000" + "68656c6c6f" + "0500000000000000"
    )


@pytest.mark.parametrize(
    "blocks",
    [
        block(uuid.uuid4(), b"abc"),
        block(STREAM_ID, b"abcd"),
        block(STREAM_ID, b"ab"),
        block(STREAM_ID, b"abc", again=4),
        block(STREAM_ID, b"", length=-1),
        block(STREAM_ID, b"", length=2**62),
        block(STREAM_ID, b"abc") + block(STREAM_ID, b"abc"),
    ],
    ids=["unknown", "longer", "shorter", "trailer", "negative", "huge", "twice"],
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


@pytest.mark.parametrize("lengths", [[-1], [101], [1, 1, 1], [2**63 - 1]])
def test_an_announcement_beyond_the_limits_is_refused(lengths: list[int]) -> None:
    documents = [stream_document(uuid.uuid4(), length) for length in lengths]
    refused(identified(SMALL), request_with(*documents))


def test_the_same_id_twice_is_refused() -> None:
    refused(identified(SMALL), request_with(stream_document(STREAM_ID, 1), stream_document(STREAM_ID, 1)))


def test_streams_may_come_in_any_order_and_may_be_empty() -> None:
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


def test_an_error_response_keeps_its_three_members() -> None:
    response = Response("id", None, ServerError("message", "details", None))
    plain = encode_message(response)
    error = bson.decode(plain)["Message"]["error"]
    assert list(error.items()) == [("message", "message"), ("details", "details"), ("HalibutErrorType", None)]


def test_the_empty_message_is_the_specified_one() -> None:
    """docs/spec/wire.md, "Worked bytes"."""
    connection = Connection(Role.POLLING_CLIENT)
    connection.receive_data(b"MX\n\nMX-SUBSCRIBER 1.0 poll://abc/\r\n\r\n")
    drain(connection)
    connection.send(Identity(IdentityKind.SERVER))
    (record,) = connection.send(Nothing())
    assert record.hex() == "e3636060e0f24d2d2e4e4c4f65600000"


@given(st.integers(0, 200_000))
def test_records_lose_nothing_and_never_end_in_a_crumb(size: int) -> None:
    data = bytes(size % 251 for _ in range(size))
    records = split_for_records(data)
    assert b"".join(records) == data
    assert all(len(record) <= 16384 for record in records)
    assert len(records) < 2 or len(records[-1]) >= 1024


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
