"""Stands beside every call for the host: measures it.

Knows calls, and where their measures go.  Must not know a wire.
"""

from __future__ import annotations

from typing import Final

from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script_v1 import StartScriptCommand
from tentacle.contracts.script_v2 import StartScriptCommandV2
from tentacle.observe.metrics import Metrics
from tentacle.services.dispatch import Answered, Failure, FailureKind, SeenCall

UNKNOWN: Final = "unknown"
"""In place of a name that a peer made up: of those there is no end."""
OK: Final = "ok"
RESULTS: Final = {
    FailureKind.UNKNOWN_SERVICE: "not_found",
    FailureKind.UNKNOWN_METHOD: "not_found",
    FailureKind.UNFIT_ARGUMENTS: "bad_request",
    FailureKind.SHUTTING_DOWN: "stopping",
    FailureKind.DRAINING: "draining",
    FailureKind.REFUSED: "refused",
    FailureKind.FAILED: "failed",
}
"""How a call ended, in a word."""


def result_of(answer: Answered | Failure) -> str:
    """How a call ended, in a word."""
    return RESULTS[answer.kind] if isinstance(answer, Failure) else OK


def streams_of(call: SeenCall) -> list[DataStream]:
    """What came along with a call."""
    found: list[DataStream] = []
    for argument in call.arguments:
        if isinstance(argument, DataStream):
            found.append(argument)
        elif isinstance(argument, StartScriptCommand | StartScriptCommandV2):
            found += [file.contents for file in argument.files]
    return found


class Oversight:
    """Sees every call before and after."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def asked(self, call: SeenCall) -> None:
        """Raises `RefusedByPolicy` for what the host does not allow."""

    def answered(self, call: SeenCall, answer: Answered | Failure, seconds: float) -> None:
        service, method = (call.service, call.method) if call.known else (UNKNOWN, UNKNOWN)
        self._metrics.call(service, method, str(call.context.wire), result_of(answer), seconds)
        if received := streams_of(call):
            self._metrics.transfer("received", len(received), sum(one.length for one in received))
        if isinstance(call.result, DataStream):
            self._metrics.transfer("sent", 1, call.result.length)
