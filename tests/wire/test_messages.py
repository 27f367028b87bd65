"""Requests, responses and the empty message as BSON, and the data streams that they announce (docs/spec/wire.md,
"Envelope", "Requests and responses" and "Data streams in the document").
"""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import bson
import pytest
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.wire.errors import ProtocolError
from tentacle.wire.limits import Limits
from tentacle.wire.messages import (
    REQUEST_TYPE,
    RESPONSE_TYPE,
    Message,
    Request,
    Response,
    ServerError,
    announced_streams,
    decode_message,
    encode_message,
    guid,
    memory_needed,
    read_guid,
)
from tests.recorded import conversations, messages

ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
EMPTY = bytes.fromhex("0E 00 00 00 0A 4D 65 73 73 61 67 65 00 00")
"""docs/spec/wire.md, "Envelope"."""
RECORDED = [plain for _, plain in messages()]


def decode(plain: bytes) -> Message | None:
    return decode_message(plain, Limits())


def decode_body(body: Any) -> Message | None:
    return decode(bson.encode({"Message": body}))


def refused(plain: bytes, limits: Limits | None = None) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_message(plain, limits or Limits())
    assert type(caught.value) is ProtocolError
    assert len(str(caught.value)) < 200


# --- what is written ---------------------------------------------------------------------------------------------


def test_the_empty_message() -> None:
    assert encode_message(None) == EMPTY
    assert decode(EMPTY) is None


def test_the_members_of_a_request_in_their_order() -> None:
    request = Request("an id", "IService", "Method", ("a", Int64(1)), ID, {"BaseUri": "poll://x/"})
    document = bson.decode(encode_message(request))
    assert list(document) == ["Message"]
    assert list(document["Message"].items()) == [
        ("$type", "Halibut.Transport.Protocol.RequestMessage, Halibut"),
        ("id", "an id"),
        ("activityId", Binary(ID.bytes_le, 4)),
        ("endpoint", {"BaseUri": "poll://x/"}),
        ("service", "IService"),
        ("method", "Method"),
        ("params", ["a", 1]),
    ]


def test_null_and_empty_are_written_and_never_left_out() -> None:
    request = bson.decode(encode_message(Request("", "", "")))["Message"]
    assert request == {**request, "activityId": None, "endpoint": None, "params": []}
    response = bson.decode(encode_message(Response("id")))["Message"]
    assert list(response.items()) == [
        ("$type", "Halibut.Transport.Protocol.ResponseMessage, Halibut"),
        ("id", "id"),
        ("error", None),
        ("result", None),
    ]


def test_an_error_has_its_three_members() -> None:
    document = bson.decode(encode_message(Response("id", None, ServerError("message", "details", None))))["Message"]
    assert list(document["error"].items()) == [
        ("message", "message"),
        ("details", "details"),
        ("HalibutErrorType", None),
    ]
    assert document["result"] is None


def test_whether_packing_takes_long_is_not_sent() -> None:
    assert encode_message(Response("id", 1, is_long=True)) == encode_message(Response("id", 1))


# --- what is read ------------------------------------------------------------------------------------------------


def test_the_specified_response_is_read() -> None:
    """docs/spec/wire.md, "Worked bytes"."""
    name = "Halibut.Exceptions.MethodNotFoundHalibutClientException"
    error = {"message": "foo", "details": f"{name}: foo", "HalibutErrorType": name}
    error["BlahBlahBlah"] = "Not something halibut will ever have"
    plain = bson.encode({"Message": {"$type": RESPONSE_TYPE, "id": "sdsd", "error": error, "result": None}})
    assert len(plain) == 339
    assert plain[:4].hex() == "53010000"
    assert decode(plain) == Response("sdsd", None, ServerError("foo", f"{name}: foo", name))


@pytest.mark.parametrize("plain", RECORDED, ids=[where for where, _ in messages()])
def test_a_recorded_message_becomes_its_bytes_again(plain: bytes) -> None:
    message = decode(plain)
    assert encode_message(message) == plain
    body = bson.decode(plain)["Message"]
    kinds = {REQUEST_TYPE: Request, RESPONSE_TYPE: Response}
    assert type(message) is (type(None) if body is None else kinds[body["$type"]])


KEYS = st.text(st.characters(codec="utf-8", exclude_characters="$\0"), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.text(max_size=10)
    | st.binary(max_size=10)
    | st.uuids().map(guid)
    | st.integers(-(2**40), 2**40).map(DatetimeMS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
TEXTS = st.text(max_size=12)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=3)
ERRORS = st.builds(ServerError, TEXTS, st.none() | TEXTS, st.none() | TEXTS)
REQUESTS = st.builds(
    Request, TEXTS, TEXTS, TEXTS, st.lists(VALUES, max_size=3).map(tuple), st.none() | st.uuids(), st.none() | DOCUMENTS
)
RESPONSES = st.builds(Response, TEXTS, VALUES, st.none() | ERRORS)


@given(REQUESTS | RESPONSES, st.binary(max_size=20))
def test_what_is_written_is_read_again_and_text_behind_the_document_is_ignored(message: Message, more: bytes) -> None:
    plain = encode_message(message)
    assert decode(plain + more) == message
    assert encode_message(decode(plain + more)) == plain


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"method": "m", "id": "1", "service": "s"}, Request("1", "s", "m")),
        ({"id": "1", "service": "s", "method": "m", "params": None, "endpoint": None}, Request("1", "s", "m")),
        ({"result": 7, "id": "1"}, Response("1", 7)),
        ({"id": "1", "error": None, "result": None}, Response("1")),
    ],
)
def test_a_message_without_its_type_is_known_by_its_members(body: dict[str, Any], message: Message) -> None:
    assert decode_body(body) == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"$type": REQUEST_TYPE, "method": "m", "service": "s", "id": "1", "new": [1]}, Request("1", "s", "m")),
        ({"$type": RESPONSE_TYPE, "id": "1"}, Response("1")),
        ({"$type": RESPONSE_TYPE, "id": "1", "method": "m", "new": {}}, Response("1")),
        ({"$type": RESPONSE_TYPE, "id": "1", "error": {}}, Response("1", None, ServerError(""))),
        (
            {"$type": RESPONSE_TYPE, "id": "1", "error": {"message": "a", "details": "b"}},
            Response("1", None, ServerError("a", "b")),
        ),
    ],
)
def test_missing_and_unknown_members_are_tolerated(body: dict[str, Any], message: Message) -> None:
    assert decode_body(body) == message


def test_members_beside_the_message_are_skipped() -> None:
    assert decode(bson.encode({"new": 1, "Message": None, "other": []})) is None


@pytest.mark.parametrize(
    "body",
    [
        "text",
        7,
        ["list"],
        b"bytes",
        {},
        {"id": "1"},
        {"$type": "System.Diagnostics.Process, System", "id": "x", "method": "m", "result": 1},
        {"$type": REQUEST_TYPE + "2", "id": "1", "service": "s", "method": "m"},
        {"$type": {"x": "y" * 1000}, "id": "1"},
        {"$type": 7, "id": "1", "method": "m"},
        {"$type": REQUEST_TYPE, "id": 1, "service": "s", "method": "m"},
        {"$type": REQUEST_TYPE, "service": "s", "method": "m"},
        {"$type": REQUEST_TYPE, "id": "1", "service": None, "method": "m"},
        {"$type": REQUEST_TYPE, "id": "1", "service": "s", "method": ["m"]},
        {"$type": REQUEST_TYPE, "id": "1", "service": "s", "method": "m", "params": "x"},
        {"$type": REQUEST_TYPE, "id": "1", "service": "s", "method": "m", "params": {"0": "x"}},
        {"$type": REQUEST_TYPE, "id": "1", "service": "s", "method": "m", "endpoint": "poll://x/"},
        {"$type": RESPONSE_TYPE, "id": None, "result": 1},
        {"$type": RESPONSE_TYPE, "id": "1", "error": "text"},
    ],
)
def test_what_is_no_message_is_refused(body: Any) -> None:
    refused(bson.encode({"Message": body}))


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\0",
        b"\x04\0\0\0",
        b"\x05\0\0\0",
        b"\x05\0\0\0\0",
        b"\x05\0\0\0\x01",
        b"\xff\xff\xff\xff" + b"x" * 20,
        b"\xff\xff\xff\x7f" + b"x" * 20,
        b"\x14\0\0\0" + b"\xff" * 16,
        EMPTY[:-1],
        b"\x0d" + EMPTY[1:],
        b"\x0f" + EMPTY[1:] + b"x",
        EMPTY.replace(b"Message", b"message"),
        EMPTY.replace(b"Message", b"Mess\xffge"),
        bson.encode({"Other": 1}),
    ],
)
def test_what_is_no_envelope_is_refused(plain: bytes) -> None:
    refused(plain)


SHORT = sorted((plain for plain in RECORDED if len(plain) < 700), key=len)[:: max(1, len(RECORDED) // 40)]
DAMAGE = st.lists(st.tuples(st.integers(0, 700), st.integers(0, 20) | st.integers(0, 255)), min_size=1, max_size=4)


def damaged(plain: bytes, damage: list[tuple[int, int]]) -> bytes:
    data = bytearray(plain)
    for place, byte in damage:
        data[place % len(data)] = byte
    return bytes(data)


@given(st.binary(max_size=60) | st.builds(damaged, st.sampled_from(SHORT), DAMAGE))
@example(bson.encode({"$ref": "a", "$id": 1}))
@example(bson.encode({"Message": {"$ref": "a", "$id": 1, "result": 1}}))
@example(bson.encode({"Message": {"id": "x", "result": Code("x", {"a": Binary(b"x", 4)})}}))
def test_no_bytes_do_more_than_a_protocol_error(plain: bytes) -> None:
    try:
        message = decode(plain)
    except ProtocolError as error:
        assert len(str(error)) < 200
        return
    announced_streams(message)
    encode_message(message)


# --- nesting -----------------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    """A response of `depth` containers inside each other, the envelope and the message among them.

    Made without recursion, so that it can be deeper than Python likes.
    """
    inner = depth - 2
    # The innermost has 5 bytes; each one around it adds its own 5 and the 3 of a member called `a`.
    lengths = [(5 + 8 * level).to_bytes(4, "little") for level in reversed(range(inner))]
    result = b"\x03a\0".join(lengths) + b"\0" * inner
    return document(b"\x03Message\0" + document(b"\x02id\0\x02\0\0\0x\0" + b"\x03result\0" + result))


def document(elements: bytes) -> bytes:
    return (len(elements) + 5).to_bytes(4, "little") + elements + b"\0"


@pytest.mark.parametrize("depth", [3, 10, 63, 64])
def test_64_containers_inside_each_other_are_read(depth: int) -> None:
    message = decode(nested(depth))
    assert isinstance(message, Response)
    assert repr(message.result).count("{") == depth - 2


@pytest.mark.parametrize("depth", [66, 100, 5000, 200_000])
def test_deeper_nesting_is_refused(depth: int) -> None:
    refused(nested(depth))


def test_65_containers_inside_each_other_are_refused() -> None:
    refused(nested(65))


@pytest.mark.parametrize("depth", [10, 200])
def test_lists_are_containers_too(depth: int) -> None:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    plain = bson.encode({"Message": {"id": "x", "result": value}})
    if depth < 60:
        assert decode(plain) == Response("x", value)
    else:
        refused(plain)


@pytest.mark.parametrize("kind", ["reference", "scope"])
def test_no_kind_of_container_hides_what_is_in_it(kind: str) -> None:
    deep: dict[str, Any] = {}
    for _ in range(80):
        deep = {"a": deep}
    value = {"$ref": "a", "$id": deep} if kind == "reference" else Code("x", deep)
    refused(bson.encode({"Message": {"id": "x", "result": value}}))


# --- data streams ------------------------------------------------------------------------------------------------


def stream(identity: UUID, length: int, **more: Any) -> dict[str, Any]:
    return {"id": guid(identity), "length": Int64(length), **more}


@pytest.mark.parametrize("kind", ["reference", "scope"])
def test_no_kind_of_container_hides_a_stream(kind: str) -> None:
    identity = uuid4()
    inner = {"x": stream(identity, 5)}
    value = {"$ref": "a", "$id": inner} if kind == "reference" else Code("x", inner)
    message = decode(bson.encode({"Message": {"id": "x", "result": value}}))
    assert announced_streams(message) == ((identity, 5),)


def test_streams_are_announced_in_the_order_of_the_document() -> None:
    ids = [uuid4() for _ in range(5)]
    params = (
        stream(ids[0], 1),
        "text",
        [[stream(ids[1], 0)], stream(ids[2], -1)],
        {"a": 1, "Files": [{"Name": "x", "Contents": {"$type": "Halibut.DataStream, Halibut", **stream(ids[3], 5)}}]},
        stream(ids[4], 2**63 - 1),
    )
    expected = tuple(zip(ids, (1, 0, -1, 5, 2**63 - 1), strict=True))
    request = decode(encode_message(Request("id", "s", "m", params)))
    assert announced_streams(request) == expected
    assert announced_streams(decode(encode_message(Response("id", list(params))))) == expected
    assert announced_streams(Response("id", params[0])) == expected[:1]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        {"id": guid(ID)},
        {"length": Int64(1)},
        {"id": guid(ID), "length": None},
        {"id": guid(ID), "length": "1"},
        {"id": guid(ID), "length": True},
        {"id": guid(ID), "length": 1.0},
        {"id": str(ID), "length": Int64(1)},
    ],
)
def test_what_only_looks_like_a_stream_announces_none(value: Any) -> None:
    for message in (Request("id", "s", "m", (value, [value])), Response("id", value)):
        assert announced_streams(message) == ()
        assert announced_streams(decode(encode_message(message))) == ()


def test_a_guid_that_is_too_short_announces_none() -> None:
    """Before 4.20 pymongo takes such a message for none at all."""
    message = Response("id", {"id": Binary(ID.bytes_le[:15], 4), "length": Int64(1)})
    assert announced_streams(message) == ()
    with suppress(ProtocolError):
        assert announced_streams(decode(encode_message(message))) == ()


def test_a_short_length_is_a_length_too() -> None:
    assert announced_streams(Response("id", {"id": guid(ID), "length": 7})) == ((ID, 7),)


def test_the_empty_message_announces_no_streams() -> None:
    assert announced_streams(None) == ()


def test_recorded_messages_announce_the_streams_that_follow_them() -> None:
    found = 0
    for conversation in conversations():
        for part in (part for turn in conversation.turns for part in turn.parts if "message" in part):
            expected = tuple((UUID(s["id"]), s["length"]) for s in part["data_streams"])
            assert announced_streams(decode(bytes.fromhex(part["bson_hex"]))) == expected
            found += len(expected)
    assert found


# --- GUIDs -------------------------------------------------------------------------------------------------------


def test_a_guid_is_written_as_dotnet_does() -> None:
    assert guid(ID) == Binary(bytes.fromhex("33221100 55447766 8899AABBCCDDEEFF"), 4)


@given(st.uuids())
def test_a_guid_is_read_as_it_was_written(value: UUID) -> None:
    assert read_guid(guid(value)) == value
    assert read_guid(bson.decode(bson.encode({"g": guid(value)}))["g"]) == value


@pytest.mark.parametrize("value", [None, str(ID), ID, ID.bytes_le, Binary(ID.bytes_le, 3), Binary(b"", 4), 7])
def test_anything_else_is_no_guid(value: object) -> None:
    assert read_guid(value) is None


# --- what it costs -----------------------------------------------------------------------------------------------

FEW = Limits(elements=1000)
KINDS: list[Any] = [
    None, True, 1, 2**40, 1.5, "text", "", b"\0\0", Binary(bytes(16), 4), {}, [], {"a": {}}, [[]], DatetimeMS(0),
    Decimal128("1"), Code("x"), Code("x", {"y": 1}), MinKey(), MaxKey(), ObjectId(), Regex("a", "i"), Timestamp(1, 2),
    DBRef("c", 1),
]  # fmt: skip
"""Every kind of value that can be written."""


def elements(value: Any) -> int:
    """How many elements are in a container, counted by hand."""
    if isinstance(value, DBRef):
        return elements(value.as_doc())
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, Code):
        children = [] if value.scope is None else value.scope.values()
    if not isinstance(value, dict | list | Code):
        return 0
    return sum(1 + elements(child) for child in children)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{type(kind).__name__}")
def test_values_of_every_kind_are_counted(kind: Any) -> None:
    document = {"a": [kind] * 500, "b": kind}
    exactly = elements(document)
    plain = bson.encode(document)
    memory_needed(plain, Limits(elements=exactly))
    if plain.count(0) > exactly - 1:
        with pytest.raises(ProtocolError, match=f"a message with more than {exactly - 1} values"):
            memory_needed(plain, Limits(elements=exactly - 1))


@pytest.mark.parametrize("kind", [None, {}, [], "", MinKey()], ids=lambda kind: f"{type(kind).__name__}")
def test_too_many_values_are_found_in_the_first_part_of_a_message(kind: Any) -> None:
    plain = bson.encode({"Message": {"params": [kind] * 5000}})
    with pytest.raises(ProtocolError, match="a message with more than 1000 values"):
        memory_needed(plain[:15_000], FEW)
    for length in (0, 3, 5, 100, 1500):
        memory_needed(plain[:length], FEW)


def test_many_zeros_are_not_many_values() -> None:
    memory_needed(bson.encode({"Message": {"params": [bytes(100_000), "\0" * 100_000]}}), FEW)


@given(st.binary(max_size=2000), st.integers(0, 3))
def test_bytes_that_are_no_document_are_left_to_their_reader(rubbish: bytes, zeros: int) -> None:
    with suppress(ProtocolError):
        assert memory_needed(rubbish + bytes(zeros * 1000), Limits(elements=3)) >= 2 * len(rubbish)


def test_values_are_not_counted_again_where_a_length_leads_back() -> None:
    """A long name between would be searched again for each of them, which takes minutes."""
    plain = b"\xff\0\0\0" + (b"\x02a\0" + struct.pack("<i", -7)) * 10 + bytes(2000)
    assert memory_needed(plain, FEW) >= 2 * len(plain)
    refused(plain, FEW)


@pytest.mark.parametrize(
    "body",
    [
        {f"{n:x}": None for n in range(50_000)},
        [{}] * 50_000,
        ["x" * 20] * 50_000,
        ["long" * 500_000],
        [Regex("")] * 9999,
    ],
    ids=["names", "documents", "texts", "text", "expressions"],
)
def test_no_message_takes_more_memory_than_was_said(body: Any) -> None:
    plain = bson.encode({"Message": body})
    tracemalloc.start()
    try:
        with suppress(ProtocolError):
            decode(plain)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A list of references comes on top, and the room that a list or a dict keeps for more.
    assert peak + len(plain) < memory_needed(plain, Limits()) * 1.2
