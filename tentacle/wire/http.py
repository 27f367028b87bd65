"""A request and a response of HTTP, as the floors above and below hand them to each other (docs/spec/https.md).

Who reads and writes their bytes is `transport/http`, who knows what they mean is `services/http`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import field
from http import HTTPStatus
from typing import Protocol

from tentacle.errors import TentacleError
from tentacle.records import dataclass
from tentacle.wire.call_context import CallContext

API_VERSION = "1"
COMMON_HEADERS: Mapping[str, str] = {
    "Tentacle-Api": API_VERSION,
    "Server": "Tentacle",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer to a trusted peer has; whoever sends it adds these."""


class BodyBroken(TentacleError):
    """The body of a request did not come to its end: the connection broke, or was too slow."""


class BodyTooLong(TentacleError):
    """The body of a request is longer than whoever wants all of it allows."""

    def __init__(self) -> None:
        super().__init__("the body of the request is too long")


@dataclass(frozen=True)
class HttpRequest:
    """`path` is as it was sent, percent-encoded, without the query; names of `headers` are in lower case.

    Several fields of one name are one, with commas.  `body` gives the body in pieces, once, and raises `BodyBroken`;
    `whole` returns all of it, up to so many bytes, else it raises `BodyTooLong`.  `length` is what it was announced
    with; `None` where that is not known.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]
    whole: Callable[[int], Awaitable[bytes]]
    length: int | None
    context: CallContext


class Readable(Protocol):
    """What an open file must be able to do to be sent."""

    def seek(self, offset: int, /) -> object: ...

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> object: ...


@dataclass(frozen=True)
class FileBody:
    """`length` bytes of an open file from `start`; whoever sends them closes it."""

    file: Readable
    start: int
    length: int


Body = bytes | FileBody | AsyncGenerator[bytes, None]


@dataclass(frozen=True)
class HttpReply:
    """`close` ends the connection behind it.  `headers` are all but those that tell how the body is sent.

    A body in pieces is closed at the end, also when the connection breaks.  `done` is called when all has been sent, or
    cannot be.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = b""
    close: bool = False
    done: Callable[[], None] = lambda: None


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **members: object) -> HttpReply:
    """An error as a problem document (RFC 9457)."""
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    body = json.dumps({**document, **members}).encode()
    return HttpReply(status, {"Content-Type": "application/problem+json", **(headers or {})}, body)
