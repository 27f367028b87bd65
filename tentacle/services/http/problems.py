"""Answers that are no success, outside `/rpc` (docs/spec/https.md, "Requests" and "Files")."""

from __future__ import annotations

from collections.abc import Mapping

from tentacle.disk import NotEnoughSpace
from tentacle.errors import TentacleError
from tentacle.services.dispatch import Failure, FailureKind
from tentacle.services.errors import AccessDenied, ArgumentError, MissingFile, NotAFile
from tentacle.wire.http import HttpReply, problem

_BY_KIND = {
    FailureKind.REFUSED: 403,
    FailureKind.SHUTTING_DOWN: 503,
    FailureKind.DRAINING: 503,
}
_BY_ERROR: Mapping[type[TentacleError], int] = {
    ArgumentError: 400,
    AccessDenied: 403,
    MissingFile: 404,
    NotAFile: 409,
    NotEnoughSpace: 507,
}


class RequestProblem(TentacleError):
    """A request that is answered with a problem document."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers

    def response(self) -> HttpReply:
        return problem(self.status, self.message, self.headers)


class FailedCall(RequestProblem):
    """A call on whose result an answer depends."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(0, failure.message)
        self._failure = failure

    def response(self) -> HttpReply:
        return of_failure(self._failure)


def of_failure(failure: Failure) -> HttpReply:
    """What a failed call of a service is outside `/rpc`."""
    status = _BY_KIND.get(failure.kind) or next(
        (status for cls, status in _BY_ERROR.items() if isinstance(failure.error, cls)), 500
    )
    headers = {"Retry-After": "5"} if status == 503 else None
    more = {"dotnetType": failure.dotnet_type} if failure.dotnet_type else {}
    return problem(status, failure.message, headers, **more)
