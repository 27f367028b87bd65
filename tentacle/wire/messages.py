"""Requests and responses, and the envelope they travel in: one BSON document `{"Message": ...}` (docs/spec/wire.md,
"Envelope").

Values are what the `bson` package makes of a document (`Int64`, `Binary`, `DatetimeMS`, ...), so that encoding a
decoded message gives the same bytes again.  What a parameter means is not known here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import field
from typing import Any
from uuid import UUID

import bson
from bson.binary import Binary
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.dbref import DBRef
from bson.errors import BSONError

from tentacle.records import dataclass
from tentacle.wire.errors import ProtocolError
from tentacle.wire.limits import Limits

REQUEST_TYPE = "Halibut.Transport.Protocol.RequestMessage, Halibut"
RESPONSE_TYPE = "Halibut.Transport.Protocol.ResponseMessage, Halibut"
GUID_SUBTYPE = 4

_CONTAINERS = frozenset((dict, list, DBRef, Code))
"""What the `bson` package makes of documents and lists; the last two of a document with `$ref`, and of a scope."""
_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)

MEMORY_PER_BYTE = 2
"""The plain text, and the texts that are read from it."""
_MEMORY_PER_ELEMENT = 150
"""About what the costliest value takes, one of a document with short names.  Others are longer in the message."""
_COUNTED_AT_ONCE = 1024 * 1024
"""Bytes: for as long no other thread can run."""
_INT32 = struct.Struct("<i")
_BSON_CODE_WITH_SCOPE, _BSON_REGULAR_EXPRESSION = 0x0F, 0x0B
_BSON_DOCUMENTS = frozenset((0x03, 0x04))
_BSON_WITH_LENGTH = {0x02: 4, 0x05: 5, 0x0C: 16, 0x0D: 4, 0x0E: 4, 0x0F: 4}
"""Kinds of values whose size stands before them, and how many bytes more they have than it says."""
_BSON_SIZES = {
    0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A call.  `id` is opaque and comes back in the response; `endpoint` is kept as it came, nobody reads it."""

    id: str
    service: str
    method: str
    params: tuple[Any, ...] = ()
    activity_id: UUID | None = None
    endpoint: dict[str, Any] | None = None


@dataclass(frozen=True)
class ServerError:
    """Why a call failed; `details` tells the caller's code what kind of failure it was (docs/spec/wire.md,
    "How a client reads an error").
    """

    message: str
    details: str | None = None
    error_type: str | None = None


@dataclass(frozen=True)
class Response:
    """What is not sent: `is_long` says that packing the result takes so long that it belongs in a thread, and
    `has_streams` whether there may be data streams in it.
    """

    id: str
    result: Any = None
    error: ServerError | None = None
    is_long: bool = field(default=False, compare=False)
    has_streams: bool = field(default=True, compare=False)


Message = Request | Response


@dataclass(frozen=True)
class PackedList:
    """A list that is BSON already, in place of a member of a result: `data` from its length to its end."""

    data: bytes | bytearray = field(repr=False)

    def unpacked(self) -> list[Any]:
        """Returns the list as the receiver of the message has it."""
        return list(bson.decode(self.data, codec_options=_OPTIONS).values())


def encode_message(message: Message | None) -> bytes:
    """The BSON of the envelope; `None` is the message that says "nothing to do"."""
    return b"".join(message_parts(message))


def message_parts(message: Message | None) -> list[bytes | bytearray]:
    """As `encode_message`, in the parts that there are: a packed list is as long as all the rest many times over."""
    if isinstance(message, Request):
        body: dict[str, Any] | None = _request_document(message)
    else:
        body = None if message is None else _response_document(message)
        if body is not None and isinstance(result := body["result"], dict) and _holds_packed(result):
            return _packed_parts({"Message": body})
    return [bson.encode({"Message": body}, codec_options=_OPTIONS)]


def _holds_packed(document: dict[str, Any]) -> bool:
    return any(isinstance(value, PackedList) for value in document.values())


def _packed_parts(document: dict[str, Any]) -> list[bytes | bytearray]:
    """The BSON of a document whose lists may be packed; the `bson` package takes only documents that are."""
    parts: list[bytes | bytearray] = [b""]
    for name, value in document.items():
        if isinstance(value, PackedList):
            parts += (b"\x04", name.encode(), b"\0", value.data)
        elif isinstance(value, dict):
            parts += (b"\x03", name.encode(), b"\0", *_packed_parts(value))
        else:
            parts.append(bson.encode({name: value}, codec_options=_OPTIONS)[4:-1])
    parts.append(b"\0")
    parts[0] = _INT32.pack(sum(map(len, parts)) + _INT32.size)
    return parts


def decode_message(data: bytes | bytearray, limits: Limits) -> Message | None:
    """Returns the message in an envelope's BSON.  Raises `ProtocolError` for bytes that are not one.

    Whether it has too many values is not asked here; see `memory_needed`.
    """
    try:
        envelope = bson.decode(_first_document(data), codec_options=_OPTIONS)
    except (BSONError, RecursionError, ValueError, TypeError, OverflowError) as error:
        raise ProtocolError("a message is not valid BSON") from error
    _check_nesting(envelope, limits.nesting)
    if "Message" not in envelope:
        raise ProtocolError("a message has no member called Message")
    body = envelope["Message"]
    if body is None:
        return None
    if not isinstance(body, dict):
        raise ProtocolError("a message is not a document")
    kind = body.get("$type")
    if kind == REQUEST_TYPE or (kind is None and "method" in body):
        return _read_request(body)
    if kind == RESPONSE_TYPE or (kind is None and "result" in body):
        return _read_response(body)
    raise ProtocolError(f"a message of the unknown type {str(kind)[:100]!r}")


def announced_streams(message: Message | None) -> tuple[tuple[UUID, int], ...]:
    """Id and length of every data stream that follows `message`, in the order of the document (docs/spec/wire.md,
    "Data streams in the document").

    A data stream is recognised by its shape, a document with a GUID called `id` and a whole number called `length`: it
    carries its type's name only in slots of static type `object`.
    """
    if message is None or (isinstance(message, Response) and not message.has_streams):
        return ()
    found: list[tuple[UUID, int]] = []
    _find_streams(list(message.params) if isinstance(message, Request) else message.result, found)
    return tuple(found)


def guid(value: UUID) -> Binary:
    """A GUID as .NET writes it: binary subtype 4, the first three fields little-endian (docs/spec/wire.md,
    "BSON values").
    """
    return Binary(value.bytes_le, GUID_SUBTYPE)


def read_guid(value: object) -> UUID | None:
    if isinstance(value, Binary) and value.subtype == GUID_SUBTYPE and len(value) == 16:
        return UUID(bytes_le=bytes(value))
    return None


def _first_document(data: bytes | bytearray) -> memoryview:
    """Plain text after the end of the document is ignored, as the original does (docs/spec/wire.md,
    "Message framing").
    """
    length = int.from_bytes(data[:4], "little", signed=True)
    if length < 5 or length > len(data):
        raise ProtocolError("a message announces more bytes than it has")
    return memoryview(data)[:length]


def memory_needed(plain: bytes | bytearray, limits: Limits) -> int:
    """How many bytes a message needs at most, its plain text and what is read from it together.

    `plain` may be the first part of it, and then it is what this part needs.
    Raises `ProtocolError` for more than `limits.elements` values, before any of them costs anything.
    """
    # Each value has a zero byte, behind its name.  Few messages have so many of these that the values must be counted.
    zeros = sum(plain.count(0, start, start + _COUNTED_AT_ONCE) for start in range(0, len(plain), _COUNTED_AT_ONCE))
    if zeros > limits.elements and _has_more_elements(plain, limits.elements):
        raise ProtocolError(f"a message with more than {limits.elements} values")
    return MEMORY_PER_BYTE * len(plain) + _MEMORY_PER_ELEMENT * min(zeros, limits.elements)


def _has_more_elements(document: bytes | bytearray, limit: int) -> bool:
    """Whether there are more before the document ends, or is not as it should be, which its reader will find too."""
    try:
        return _count_elements(document, limit + 1) > limit
    except (IndexError, KeyError, ValueError, struct.error):
        return False


def _count_elements(document: bytes | bytearray, enough: int) -> int:
    """Goes from element to element (bsonspec.org, version 1.1), and into documents and lists, without recursion.

    Stops when it has found `enough`.
    """
    position, depth, count = 4, 1, 0
    while depth and count < enough:
        kind = document[position]
        position += 1
        if not kind:
            depth -= 1
            continue
        count += 1
        position = document.index(0, position) + 1
        if kind == _BSON_CODE_WITH_SCOPE:
            position += 4
        if kind in _BSON_WITH_LENGTH:
            (length,) = _INT32.unpack_from(document, position)
            if length < 0:
                # It would lead back, and the same long name would be searched again for each element.
                raise ValueError("a value of a negative length")
            position += length + _BSON_WITH_LENGTH[kind]
        elif kind == _BSON_REGULAR_EXPRESSION:
            position = document.index(0, document.index(0, position) + 1) + 1
        elif kind not in _BSON_DOCUMENTS:
            position += _BSON_SIZES[kind]
        if kind in _BSON_DOCUMENTS or kind == _BSON_CODE_WITH_SCOPE:
            position += 4
            depth += 1
    return count


def _request_document(request: Request) -> dict[str, Any]:
    return {
        "$type": REQUEST_TYPE,
        "id": request.id,
        "activityId": None if request.activity_id is None else guid(request.activity_id),
        "endpoint": request.endpoint,
        "service": request.service,
        "method": request.method,
        "params": list(request.params),
    }


def _response_document(response: Response) -> dict[str, Any]:
    error = response.error and {
        "message": response.error.message,
        "details": response.error.details,
        "HalibutErrorType": response.error.error_type,
    }
    return {"$type": RESPONSE_TYPE, "id": response.id, "error": error, "result": response.result}


def _read_request(body: dict[str, Any]) -> Request:
    params, endpoint = body.get("params"), body.get("endpoint")
    if not isinstance(params, list | None) or not isinstance(endpoint, dict | None):
        raise ProtocolError("a request with parameters that are not a list, or an endpoint that is no document")
    return Request(
        id=_text(body, "id"),
        service=_text(body, "service"),
        method=_text(body, "method"),
        params=tuple(params or ()),
        activity_id=read_guid(body.get("activityId")),
        endpoint=endpoint,
    )


def _read_response(body: dict[str, Any]) -> Response:
    error = body.get("error")
    if error is None:
        return Response(_text(body, "id"), body.get("result"))
    if not isinstance(error, dict):
        raise ProtocolError("a response with an error that is no document")
    details, kind = error.get("details"), error.get("HalibutErrorType")
    return Response(
        _text(body, "id"),
        body.get("result"),
        ServerError(
            str(error.get("message") or ""),
            None if details is None else str(details),
            None if kind is None else str(kind),
        ),
    )


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise ProtocolError(f"a message without a text called {name}")
    return value


def _check_nesting(root: object, limit: int) -> None:
    """Raises `ProtocolError` for containers nested deeper than `limit`, so that recursion over the document is safe."""
    level: list[Any] = [root]
    for _ in range(limit):
        level = [v for c in level for v in _children(c) if type(v) in _CONTAINERS]
        if not level:
            return
    raise ProtocolError(f"a message with more than {limit} levels of nesting")


def _children(container: Any) -> Iterable[Any]:
    if isinstance(container, dict):
        return container.values()
    if isinstance(container, list):
        return container
    return container.as_doc().values() if isinstance(container, DBRef) else (container.scope,)


def _find_streams(value: Any, found: list[tuple[UUID, int]]) -> None:
    """Adds the data streams in `value`.  Kept fast: most values are log entries, tens of thousands of them."""
    if isinstance(value, dict):
        length = value.get("length")
        if isinstance(length, int) and not isinstance(length, bool):
            identity = read_guid(value.get("id"))
            if identity is not None:
                found.append((identity, int(length)))
                return
    elif type(value) not in _CONTAINERS:
        return
    for child in _children(value):
        if type(child) in _CONTAINERS:
            _find_streams(child, found)
