"""What this server needs of the wire: it carries a call to a worker and returns the worker's answer.

Knows endpoints, the table of services and files by their stream ids.  Must not know TLS, sockets or Halibut, which
`comms` does, nor in which order calls are made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from tentacle.contracts.codec import CodecError, decode, encode
from tentacle.contracts.services import SERVICE_METHODS
from tentacle.errors import EXIT_INTERNAL, TentacleError
from tentacle.records import dataclass
from tentacle.wire.http import HttpReply

T = TypeVar("T")
NO_STREAMS: Final[Mapping[UUID, Path]] = MappingProxyType({})


@dataclass(frozen=True)
class ConnectionLimits:
    """How a machine's policy has it called, in seconds.

    One that polls must fetch a call within `queue` and answer it within `processing`.  One that listens is dialled up
    to `attempts` times, each for `connect`, with `pause` between them and none begun after `trying`.
    """

    queue: float = 120
    processing: float = 600
    connect: float = 60
    attempts: int = 5
    pause: float = 1
    trying: float = 300


@dataclass(frozen=True)
class Endpoint:
    """Where a worker is, and the certificate that it must show.

    `uri` is `https://host:port/` for a worker that listens and `poll://id/` for one that polls; `thumbprint` is the
    SHA-1 of its certificate, 40 hex digits.  It is the same endpoint whatever its `limits`.
    """

    uri: str
    thumbprint: str
    limits: ConnectionLimits | None = field(default=None, compare=False)

    @property
    def polling(self) -> bool:
        return self.uri.lower().startswith("poll:")


@dataclass(frozen=True)
class CallResult:
    """The `result` document of an answer, and the files that came with it, which now belong to the receiver."""

    result: Any
    streams: Mapping[UUID, Path] = field(default_factory=dict)


class WorkerCallFailed(TentacleError):
    """A call without a result.

    `details` and `error_type` are what the worker answered (`details` is empty when it answered nothing at all);
    `connected` tells whether the request may have reached the worker, `final` that another attempt would fail as well.
    """

    default_exit_code = EXIT_INTERNAL

    def __init__(
        self,
        message: str,
        details: str = "",
        error_type: str | None = None,
        *,
        connected: bool = False,
        final: bool = False,
    ) -> None:
        super().__init__(message)
        self.details = details
        self.error_type = error_type
        self.connected = connected
        self.final = final


class WorkerCaller(Protocol):
    """Carries one call to one worker."""

    async def call(
        self,
        endpoint: Endpoint,
        service: str,
        method: str,
        params: list[Any],
        *,
        streams: Mapping[UUID, Path] = NO_STREAMS,
        timeout: float | None = None,
    ) -> CallResult:
        """Returns the worker's answer; `params` are documents made by `contracts.codec.encode`, `timeout` is seconds.

        Raises `WorkerCallFailed`.  Cancelling the caller's task takes back a call that no worker has fetched yet.
        """


class Comms(WorkerCaller, Protocol):
    """The calling side, with a listener for the workers that poll."""

    @property
    def address(self) -> str:
        """`host:port` that polling workers connect to."""

    @property
    def polling_addresses(self) -> tuple[str, ...]:
        """Where workers poll by HTTPS; others are told the first."""

    async def answer_stranger(
        self, method: str, path: str, headers: Mapping[str, str], body: AsyncIterator[bytes], address: str
    ) -> HttpReply:
        """Answers a worker that polls by HTTPS, when its request has come here without TLS, through a proxy."""

    def trust(self, endpoints: Collection[Endpoint]) -> None:
        """From now on exactly these workers may connect."""

    async def close(self) -> None:
        """Stops listening and ends every connection."""


# --- calls with values instead of documents --------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """A decoded result (`None` where it is null), and the files that came with it."""

    value: Any
    streams: Mapping[UUID, Path]


@dataclass(frozen=True)
class TypedCalls:
    """Calls to one worker.  Every failure is a `WorkerCallFailed`."""

    caller: WorkerCaller
    endpoint: Endpoint

    async def call(
        self,
        service: str,
        name: str,
        *arguments: object,
        streams: Mapping[UUID, Path] = NO_STREAMS,
        timeout: float | None = None,
    ) -> Answer:
        method = SERVICE_METHODS[service][name.lower()]
        result = await self.caller.call(
            self.endpoint, service, method.name, [encode(a) for a in arguments], streams=streams, timeout=timeout
        )
        if method.result is None or (result.result is None and method.nullable):
            return Answer(None, result.streams)
        try:
            return Answer(decode(method.result, result.result), result.streams)
        except CodecError as error:
            for path in result.streams.values():
                path.unlink(missing_ok=True)
            raise WorkerCallFailed(
                f"The worker answered {name} with something else: {error}", "unreadable", connected=True
            ) from error


def expect(kind: type[T], answer: Answer) -> T:
    """Returns the answer's value, which must be of the type `kind`.  Raises `WorkerCallFailed` for null."""
    if not isinstance(answer.value, kind):
        raise WorkerCallFailed(f"The worker answered null instead of a {kind.__name__}.", "unreadable", connected=True)
    return answer.value
