"""What passes between who polls a server by HTTPS and who carries out what it asks for (docs/spec/https.md, "Polling").

Who sends and reads the requests is `transport/http`, who knows what they mean is `services/http`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit
from uuid import UUID

from tentacle.records import dataclass
from tentacle.wire.call_context import CallContext
from tentacle.wire.http import Readable

IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,199}", re.ASCII)
"""The ids of requests and of streams: they stand in paths as they are."""
MOST_AT_ONCE: Final = 100
"""Requests that one answer may hold."""


@dataclass(frozen=True)
class PolledRequest:
    """A request as it was fetched.  After `until`, by the monotonic clock, nobody waits for its answer any more."""

    id: str
    body: Mapping[str, Any]
    trace_parent: str | None = None
    until: float | None = None


@dataclass(frozen=True)
class PolledReply:
    """`body` is the JSON-RPC response.  The `streams` in it, open files with their lengths, are sent before it."""

    id: str
    body: bytes
    streams: Mapping[UUID, tuple[Readable, int]] = field(default_factory=dict)

    def close(self) -> None:
        for file, _ in self.streams.values():
            file.close()


class ServerStreams(Protocol):
    """The data streams that a server keeps for a request."""

    def fetch(self, identity: str) -> AsyncIterator[bytes]:
        """The bytes in pieces.  Raises `KeyError` when the server has no such stream, else what connections raise."""


class PolledCalls(Protocol):
    """Carries out what was fetched from servers, each request once, and keeps the replies until they have arrived."""

    def holding(self, server: str) -> Collection[str]:
        """The ids of `server` whose replies are still to come."""

    def read(self, document: bytes, date: str | None) -> Sequence[PolledRequest]:
        """What is in the answer of a server that was sent at `date` (as in HTTP).  Raises `ProtocolError`."""

    async def answer(
        self, server: str, request: PolledRequest, context: CallContext, streams: ServerStreams
    ) -> PolledReply | None:
        """The reply; `None` where there will be none now, as another connection is at it, or the agent ends.

        Raises what `streams` raises; then nothing was done, and the request may be fetched again.
        """

    async def refused(self, server: str, reply: PolledReply, why: str) -> PolledReply:
        """What to send instead of a reply that the server will not take."""

    def let_go(self, server: str, reply: PolledReply) -> None:
        """The reply could not be sent; when its request is fetched again, it is answered again."""

    async def arrived(self, server: str, reply: PolledReply) -> None:
        """The server has the reply, or does not want it."""


def subscription_name(subscription: str) -> str:
    """What stands for `poll://name/` in a path."""
    return quote(urlsplit(subscription).netloc.lower(), safe="")
