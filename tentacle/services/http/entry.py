"""What the host sees of each request by HTTPS: before anything of a body is read, and when it has been answered.

Everything that is served goes through `Gate.through`, so that the policy and the audit record miss nothing.  A
request that becomes a call of a service is asked for here and told of there; see `SeenCall`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tentacle.contracts.services import SERVICE_METHODS
from tentacle.records import dataclass
from tentacle.services.dispatch import Answered, Failure, FailureKind, Overseer, SeenCall
from tentacle.services.errors import RefusedByPolicy
from tentacle.services.http.problems import of_failure
from tentacle.services.veto import HTTPS, START
from tentacle.wire.call_context import CallContext
from tentacle.wire.http import HttpReply, HttpRequest

FILES: Final = "IFileTransferService"
_UPLOAD, _DOWNLOAD = f"{FILES}.UploadFile", f"{FILES}.DownloadFile"
_STARTS: Final = tuple(f"{name}.{START}" for name in SERVICE_METHODS if START.lower() in SERVICE_METHODS[name])
_RPC: Final = "JSON-RPC"
_BROKEN_OFF: Final = Failure(FailureKind.FAILED, "The request did not come to its end.")
_BY_STATUS: Final = {
    403: FailureKind.REFUSED,
    404: FailureKind.UNKNOWN_METHOD,
    405: FailureKind.UNKNOWN_METHOD,
    503: FailureKind.SHUTTING_DOWN,
}


def stranger(request: HttpRequest) -> SeenCall:
    """A request that is for nothing that there is."""
    return SeenCall(request.context, HTTPS, f"{request.method} {request.path}")


def calls_inside(request: HttpRequest) -> SeenCall:
    """A request whose calls are asked for and told of one by one."""
    return SeenCall(request.context, HTTPS, _RPC, known=True, asked=True)


def description(request: HttpRequest) -> SeenCall:
    return SeenCall(request.context, HTTPS, "GET /openapi.json", known=True)


def stream_sent(request: HttpRequest) -> SeenCall:
    """Bytes for a later call."""
    return SeenCall(request.context, HTTPS, "POST /streams", known=True, serves=(_UPLOAD, *_STARTS))


def stream_fetched(request: HttpRequest) -> SeenCall:
    return SeenCall(request.context, HTTPS, "GET /streams", known=True, serves=(_DOWNLOAD,))


def file_sent(request: HttpRequest, path: str) -> SeenCall:
    """A file, or a piece of one that is not its last."""
    if request.headers.get("upload-incomplete") == "?1":
        return SeenCall(request.context, HTTPS, f"{request.method} /files", True, (path,), serves=(_UPLOAD,))
    return SeenCall(request.context, FILES, "UploadFile", True, (path,))


def file_read(request: HttpRequest, path: str) -> SeenCall:
    """A file, or how much of one has been sent."""
    if request.method == "HEAD" and request.headers.get("upload-incomplete") == "?1":
        return file_sent(request, path)
    return SeenCall(request.context, FILES, "DownloadFile", True, (path,))


Answer = Callable[[HttpRequest, SeenCall], Awaitable[HttpReply]]


@dataclass(frozen=True)
class Served:
    """What answers a request, and what the host sees of it."""

    seen: SeenCall
    answer: Answer


class Gate:
    """Has `overseer` look at requests."""

    def __init__(self, overseer: Overseer) -> None:
        self._overseer = overseer

    async def through(self, seen: SeenCall, answer: Callable[[SeenCall], Awaitable[HttpReply]]) -> HttpReply:
        """The answer to a request, or the refusal of it.  `answer` must raise only where nobody is answered."""
        began = time.perf_counter()
        outcome: Answered | Failure = _BROKEN_OFF
        try:
            reply = self._refusal(seen) or await answer(seen)
            outcome = outcome_of(reply)
            return reply
        finally:
            if not seen.told:
                self._overseer.answered(seen, outcome, time.perf_counter() - began)
                seen.told = True

    def unfit(self, context: CallContext, why: str) -> None:
        """Tells of a text that is no call."""
        seen = SeenCall(context, HTTPS, _RPC, known=True)
        self._overseer.answered(seen, Failure(FailureKind.UNFIT_ARGUMENTS, why), 0.0)

    def _refusal(self, seen: SeenCall) -> HttpReply | None:
        try:
            if not seen.asked and seen.known:
                self._overseer.asked(seen)
                seen.asked = True
        except RefusedByPolicy as refused:
            return of_failure(Failure(FailureKind.REFUSED, refused.message, refused.dotnet_type))
        return None


def outcome_of(reply: HttpReply) -> Answered | Failure:
    """What came of a request, in the words of calls."""
    if reply.status < 400:
        return Answered(None)
    kind = _BY_STATUS.get(reply.status, FailureKind.UNFIT_ARGUMENTS if reply.status < 500 else FailureKind.FAILED)
    assert isinstance(reply.body, bytes), "what fails is told by a problem document"
    return Failure(kind, json.loads(reply.body)["detail"] if reply.body else "")
