"""Everything that can happen on a connection, in either direction.  Small, frozen, without behaviour."""

from __future__ import annotations

import enum
from uuid import UUID

from tentacle.records import dataclass
from tentacle.wire.messages import Request, Response


class IdentityKind(enum.Enum):
    CLIENT = "MX-CLIENT"
    SUBSCRIBER = "MX-SUBSCRIBER"
    SERVER = "MX-SERVER"


@dataclass(frozen=True)
class Preface:
    """`MX` and a blank line: the connector's first words."""


@dataclass(frozen=True)
class Identity:
    """Who the peer says it is.  A subscriber names its subscription, normalised."""

    kind: IdentityKind
    subscription: str | None = None


@dataclass(frozen=True)
class Next:
    """The connector is ready for another request."""


@dataclass(frozen=True)
class Proceed:
    """The acceptor agrees."""


@dataclass(frozen=True)
class End:
    """The connector is going to close."""


@dataclass(frozen=True)
class Nothing:
    """The empty message: there is no request for a polling service at the moment."""


@dataclass(frozen=True)
class StreamBegin:
    """A data stream of the last message begins: `length` bytes follow in `StreamChunk`s."""

    id: UUID
    length: int


@dataclass(frozen=True)
class StreamChunk:
    data: bytes


@dataclass(frozen=True)
class StreamEnd:
    """The data stream was complete, and its length was what had been announced."""


@dataclass(frozen=True)
class Closed:
    """The peer has closed the connection where it may."""


@dataclass(frozen=True)
class RequestEvent:
    """A request; `streams` data streams follow it."""

    request: Request
    streams: int = 0


@dataclass(frozen=True)
class ResponseEvent:
    """A response; `streams` data streams follow it."""

    response: Response
    streams: int = 0


Event = (
    Preface
    | Identity
    | Next
    | Proceed
    | End
    | Nothing
    | RequestEvent
    | ResponseEvent
    | StreamBegin
    | StreamChunk
    | StreamEnd
    | Closed
)
