"""Calls with contract dataclasses instead of documents, checked against the table of services in both directions.

Knows the table of services and the codec; must not know in which order calls are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from tentacle.contracts.codec import CodecError, decode, encode
from tentacle.contracts.services import SERVICE_METHODS
from tentacle.devserver.worker.caller import NO_STREAMS, Endpoint, WorkerCaller, WorkerCallFailed

T = TypeVar("T")


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
