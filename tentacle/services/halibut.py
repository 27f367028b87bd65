"""Calls that come by Halibut, and what their caller is told (docs/spec/wire.md, "Dispatch" and "Errors on the wire").

The texts are those that a server's client looks for (docs/spec/services.md, "Failures of a call"): the beginning of
`details` tells it whether the service failed (not tried again) or could not be reached (tried again).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO
from uuid import UUID

from tentacle.contracts import codec
from tentacle.contracts.codec import CodecError
from tentacle.contracts.services import Method
from tentacle.records import dataclass
from tentacle.services.capabilities import CapabilitiesService
from tentacle.services.dispatch import Answered, Answering, Failure, FailureKind, Files
from tentacle.wire.call_context import CallContext
from tentacle.wire.messages import Request, Response, ServerError

INVOCATION_PREFIX = (
    "System.Reflection.TargetInvocationException: Exception has been thrown by the target of an invocation."
)
_TYPED = frozenset((FailureKind.UNKNOWN_METHOD, FailureKind.UNFIT_ARGUMENTS))
"""What is answered with a type of its own, by Halibut itself; the original's dispatcher does not know it."""


@dataclass(frozen=True)
class HalibutCall:
    """A request as the dispatcher takes it."""

    request: Request
    files: Files
    context: CallContext
    seen: None = None

    @property
    def service(self) -> str:
        return self.request.service

    @property
    def method(self) -> str:
        return self.request.method

    def arguments(self, method: Method) -> tuple[Any, ...]:
        """Raises `CodecError` with the original's words; what does not fit is its cause, for the log alone."""
        params = self.request.params
        if len(params) != len(method.parameters):
            raise _no_overload(method, params)
        try:
            return tuple(
                _argument(cls, value, nullable=method.nullable and position == len(params) - 1 and position > 0)
                for position, (cls, value) in enumerate(zip(method.parameters, params, strict=True))
            )
        except CodecError as error:
            raise _no_overload(method, params) from error

    def encode(self, _method: Method, result: Any) -> Any:
        return codec.encode(result)


async def answer_request(
    answering: Answering, request: Request, files: Files, context: CallContext
) -> tuple[Response, Mapping[UUID, BinaryIO]]:
    """The response to `request`, and open files for the data streams that it announces.  Never raises."""
    answer = await answering(HalibutCall(request, files, context))
    if isinstance(answer, Answered):
        response = Response(request.id, answer.document, is_long=answer.is_long, has_streams=bool(answer.files))
        return response, answer.files
    return Response(request.id, None, server_error(answer)), {}


def is_immediate(request: Request) -> bool:
    """Whether the answer is there already: nothing is changed, and nothing waited for."""
    return request.service == CapabilitiesService.name


def server_error(failure: Failure) -> ServerError:
    """What the caller of a failed call is told."""
    message, kind = failure.message, failure.dotnet_type
    if failure.kind is FailureKind.SHUTTING_DOWN:
        # Without the prefix of a failed call the caller tries again.
        return ServerError(message, message)
    if failure.kind is FailureKind.UNKNOWN_SERVICE:
        return ServerError(message, f"{kind}: {message}")
    if failure.kind in _TYPED:
        return ServerError(message, f"{kind}: {message}", kind)
    return ServerError(message, f"{INVOCATION_PREFIX}\n ---> {kind}: {message}")


def _argument(cls: type, value: Any, *, nullable: bool) -> Any:
    return None if nullable and value is None else codec.decode(cls, value)


def _no_overload(method: Method, params: tuple[Any, ...]) -> CodecError:
    wanted = ", ".join(cls.__name__ for cls in method.parameters)
    given = ", ".join(_kind(value) for value in params[:20])
    return CodecError(
        f"Could not decide which candidate to call out of the following methods:\n{method.name}Async({wanted})\n"
        f"The request arguments were:\n{given}"
    )


def _kind(value: Any) -> str:
    """The short name of an argument's type, as the original lists it; never its value."""
    if value is None:
        return "<null>"
    if isinstance(value, dict) and "$type" in value:
        return str(value["$type"]).split(",", 1)[0].rsplit(".", 1)[-1][:100]
    return {str: "String", bool: "Boolean", float: "Double"}.get(
        type(value), "Int64" if isinstance(value, int) else "JArray" if isinstance(value, list) else "JObject"
    )
