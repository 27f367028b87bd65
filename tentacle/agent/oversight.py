"""Stands beside every call for the host: asks the policy, keeps the audit record, measures.

Knows calls, and who is told of them.  Must not know a wire.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.file_transfer import UploadResult
from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v1 import StartScriptCommand
from tentacle.contracts.script_v2 import StartScriptCommandV2
from tentacle.observe.audit import AuditFailed, AuditRecord
from tentacle.observe.measures import Unmeasured
from tentacle.scripts.history import EndedScript
from tentacle.services.dispatch import Answered, Failure, FailureKind, SeenCall
from tentacle.services.errors import RefusedByPolicy
from tentacle.services.script_support import script_body
from tentacle.services.veto import HTTPS, Veto
from tentacle.settings.policy import HostPolicy
from tentacle.trace_context import current_work, working_for

log = logging.getLogger(__name__)

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
_UNCHANGING: Final = frozenset(("GetStatus", "GetCapabilities", "GET /openapi.json", "HEAD /files"))
"""What is asked all the time, and changes nothing: recorded only when it fails."""
_LONGEST_NAME: Final = 200

Start = StartScriptCommand | StartScriptCommandV2


class Oversight:
    """Sees every call before and after, and every script's end."""

    def __init__(self, metrics: Unmeasured, audit: AuditRecord, veto: Veto, policy: Callable[[], HostPolicy]) -> None:
        self._metrics = metrics
        self._audit = audit
        self._veto = veto
        self._policy = policy

    def asked(self, call: SeenCall) -> None:
        """Raises `RefusedByPolicy` for what the host does not allow.  A start is on record before it is one."""
        self._veto.require(call)
        if _start_in(call) is None:
            return
        try:
            self._audit.append({"Event": "asked", **_who(call), **_what(call)})
        except AuditFailed as error:
            if self._policy().refuse_unaudited:
                raise RefusedByPolicy(f"Refused by the policy of this host: {error.message}.") from error

    def answered(self, call: SeenCall, answer: Answered | Failure, seconds: float) -> None:
        result = RESULTS[answer.kind] if isinstance(answer, Failure) else OK
        self._measure(call, result, seconds)
        _tell(call, result)
        if result == OK and call.method in _UNCHANGING:
            return
        error = {"Error": answer.message} if isinstance(answer, Failure) else {}
        with suppress(AuditFailed):
            record = {"Event": "answered", **_who(call), **_what(call), "Result": result, **error}
            self._audit.append({**record, "Seconds": round(seconds, 3)})

    def ended(self, script: EndedScript) -> None:
        """A script has ended."""
        with working_for(replace(current_work(), ticket=script.ticket)):
            log.info("Script %s has ended with exit code %s", script.ticket, script.exit_code)
        with suppress(AuditFailed):
            record = {"Event": "ended", "Ticket": script.ticket, "TaskId": script.task, "ExitCode": script.exit_code}
            self._audit.append(record)

    def _measure(self, call: SeenCall, result: str, seconds: float) -> None:
        service, method = (call.service, call.method) if call.known else (UNKNOWN, UNKNOWN)
        self._metrics.call(service, method, str(call.context.wire), result, seconds)
        if call.service == HTTPS:
            # Its bytes are counted with the call that uses them.
            return
        if received := _streams_of(call):
            self._metrics.transfer("received", len(received), sum(one.length for one in received))
        if isinstance(call.result, DataStream):
            self._metrics.transfer("sent", 1, call.result.length)


def _tell(call: SeenCall, result: str) -> None:
    """Of each call one line, for those who look for a fault."""
    if log.isEnabledFor(logging.DEBUG):
        name = f"{call.service}.{call.method}" if call.known else "a call that does not exist"
        with working_for(replace(current_work(), ticket=_ticket_of(call) or "")):
            log.debug("%s of %s by %s: %s", name, call.context.address, call.context.wire, result)


def _who(call: SeenCall) -> dict[str, Any]:
    context = call.context
    trace = {"TraceParent": context.trace_parent} if context.trace_parent else {}
    return {"Thumbprint": context.thumbprint, "Address": context.address, "Wire": str(context.wire), **trace}


def _what(call: SeenCall) -> dict[str, Any]:
    """What was asked for.  Of a script its hash alone; never an argument, a password, or a file's content."""
    record: dict[str, Any] = {"Service": call.service[:_LONGEST_NAME], "Method": call.method[:_LONGEST_NAME]}
    if ticket := _ticket_of(call):
        record["Ticket"] = ticket
    if (start := _start_in(call)) is not None:
        record["TaskId"] = start.task_id
        body = script_body(start.script_body, start.scripts)
        record["ScriptSha256"] = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
        record["Files"] = [{"Name": one.name, "Length": one.contents.length} for one in start.files]
    elif call.known and call.arguments and isinstance(call.arguments[0], str):
        record["Path"] = call.arguments[0]
        streams = _streams_of(call) or ([call.result] if isinstance(call.result, DataStream) else [])
        record["Files"] = [{"Name": call.arguments[0], "Length": one.length} for one in streams]
        if isinstance(call.result, UploadResult):
            record["Sha1"] = call.result.hash
    return record


def _start_in(call: SeenCall) -> Start | None:
    first = call.arguments[0] if call.arguments else None
    return first if isinstance(first, Start) else None


def _ticket_of(call: SeenCall) -> str | None:
    """The ticket that a call is about; one that the agent made stands in the result."""
    for value in (*call.arguments, call.result):
        found = value if isinstance(value, ScriptTicket) else getattr(value, "ticket", None)
        found = getattr(value, "script_ticket", None) or found
        if isinstance(found, ScriptTicket):
            return found.task_id
    return None


def _streams_of(call: SeenCall) -> list[DataStream]:
    """What came along with a call."""
    start = _start_in(call)
    if start is not None:
        return [file.contents for file in start.files]
    return [one for one in call.arguments if isinstance(one, DataStream)]
