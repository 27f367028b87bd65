"""From a request to a response: finds the method, checks the arguments, and turns every failure into a wire error.

The only place where an exception becomes a wire error.  The texts are those that a server's client looks for
(docs/spec/services.md, "Failures of a call" and docs/spec/wire.md, "Dispatch" and "Errors on the wire"): the beginning
of `details` tells it whether the service failed (not tried again) or could not be reached (tried again).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from tentacle.contracts import codec
from tentacle.contracts.codec import CodecError
from tentacle.contracts.services import SERVICE_METHODS, Method
from tentacle.errors import TentacleError, one_line
from tentacle.services.errors import ServiceError, ShuttingDown
from tentacle.wire.messages import Request, Response, ServerError

log = logging.getLogger(__name__)

Files = Mapping[UUID, Path]
"""The data streams of a call: by id, the file with its bytes, which the service may move away."""

INVOCATION_PREFIX = (
    "System.Reflection.TargetInvocationException: Exception has been thrown by the target of an invocation."
)
_MANY = 1000
"""A log with more entries is encoded in a thread."""
_METHOD_NOT_FOUND = "Halibut.Exceptions.MethodNotFoundHalibutClientException"
_AMBIGUOUS = "Halibut.Exceptions.AmbiguousMethodMatchHalibutClientException"


@dataclass(frozen=True)
class Outgoing:
    """A result with data streams: open files, by the ids that stand in the result."""

    result: Any
    files: Mapping[UUID, BinaryIO] = field(default_factory=dict)


ServiceMethod = Callable[[tuple[Any, ...], Files], Awaitable[Any]]


class Service(Protocol):
    """One service: its wire name, the name of the original's class, and its methods by wire name."""

    name: str
    implementation: str

    @property
    def methods(self) -> Mapping[str, ServiceMethod]: ...


class Dispatcher:
    """Answers every request; never raises, whatever the request is.

    `cover` masks secrets in the text of a failure; it must not raise.
    """

    def __init__(self, services: Iterable[Service], cover: Callable[[str], str] = str) -> None:
        self._services = {service.name: service for service in services}
        self._cover = cover

    async def handle(self, request: Request, files: Files) -> tuple[Response, Mapping[UUID, BinaryIO]]:
        """The response to `request`, and open files for the data streams that it announces."""
        try:
            return await self._invoke(request, files)
        except _Refused as refused:
            return Response(request.id, None, refused.error), {}
        except ShuttingDown as error:
            return refusal(request, error), {}
        except TentacleError as error:
            log.warning("%s.%s failed: %s", request.service, request.method, one_line(error))
            return Response(request.id, None, _failure(error, self._cover)), {}
        except Exception as error:
            log.exception("%s.%s failed unexpectedly", request.service, request.method)
            return Response(request.id, None, _failure(error, self._cover)), {}

    async def _invoke(self, request: Request, files: Files) -> tuple[Response, Mapping[UUID, BinaryIO]]:
        service = self._services.get(request.service)
        if service is None:
            raise _unknown_service(request.service)
        method = SERVICE_METHODS[request.service].get(request.method.lower())
        if method is None:
            raise _unknown_method(service, request.method)
        arguments = _arguments(method, request)
        result = await service.methods[method.name](arguments, files)
        outgoing = result if isinstance(result, Outgoing) else Outgoing(result)
        # Encoding a long log takes a while, and other calls must not wait for it.
        long = len(getattr(outgoing.result, "logs", ())) > _MANY
        document = await asyncio.to_thread(codec.encode, outgoing.result) if long else codec.encode(outgoing.result)
        return Response(request.id, document, is_long=long), outgoing.files


def refusal(request: Request, error: ShuttingDown) -> Response:
    """The answer of an agent that is stopping.  Without the prefix of a failed call, the caller tries again."""
    return Response(request.id, None, ServerError(error.message, error.message))


class _Refused(TentacleError):
    """The request does not name something that exists; carries the finished answer."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(error.message)
        self.error = error


def _arguments(method: Method, request: Request) -> tuple[Any, ...]:
    if len(request.params) != len(method.parameters):
        raise _no_overload(method, request)
    try:
        return tuple(
            _argument(cls, value, nullable=method.nullable and position == len(method.parameters) - 1 and position > 0)
            for position, (cls, value) in enumerate(zip(method.parameters, request.params, strict=True))
        )
    except CodecError as error:
        log.warning("%s.%s: %s", request.service, request.method, one_line(error))
        raise _no_overload(method, request) from error


def _argument(cls: type, value: Any, *, nullable: bool) -> Any:
    return None if nullable and value is None else codec.decode(cls, value)


def _unknown_service(name: str) -> _Refused:
    message = f"Error: {name[:200]} has not been registered through an IAutofacServiceSource"
    kind = "Octopus.Tentacle.Communications.UnknownServiceNameException"
    return _Refused(ServerError(message, f"{kind}: {message}"))


def _unknown_method(service: Service, name: str) -> _Refused:
    message = f"Method {service.implementation}::{name[:200]}Async not found"
    return _Refused(ServerError(message, f"{_METHOD_NOT_FOUND}: {message}", _METHOD_NOT_FOUND))


def _no_overload(method: Method, request: Request) -> _Refused:
    wanted = ", ".join(cls.__name__ for cls in method.parameters)
    given = ", ".join(_kind(value) for value in request.params[:20])
    message = (
        f"Could not decide which candidate to call out of the following methods:\n{method.name}Async({wanted})\n"
        f"The request arguments were:\n{given}"
    )
    return _Refused(ServerError(message, f"{_AMBIGUOUS}: {message}", _AMBIGUOUS))


def _kind(value: Any) -> str:
    """The short name of an argument's type, as the original lists it; never its value."""
    if value is None:
        return "<null>"
    if isinstance(value, dict) and "$type" in value:
        return str(value["$type"]).split(",", 1)[0].rsplit(".", 1)[-1][:100]
    return {str: "String", bool: "Boolean", float: "Double"}.get(
        type(value), "Int64" if isinstance(value, int) else "JArray" if isinstance(value, list) else "JObject"
    )


def _failure(error: Exception, cover: Callable[[str], str]) -> ServerError:
    """The error for a failure inside the service.  Its prefix, which is never masked, says that the call arrived."""
    kind = error.dotnet_type if isinstance(error, ServiceError) else "System.InvalidOperationException"
    message = cover(error.message if isinstance(error, TentacleError) else one_line(error))
    return ServerError(message, f"{INVOCATION_PREFIX}\n ---> {kind}: {message}")
