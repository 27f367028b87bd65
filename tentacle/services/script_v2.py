"""Script service V2 (docs/spec/services.md, "Script service V2"): the caller names the ticket, and may repeat every
call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState, ScriptTicket
from tentacle.contracts.script_v2 import (
    CancelScriptCommandV2,
    CompleteScriptCommandV2,
    ScriptStatusRequestV2,
    ScriptStatusResponseV2,
    StartScriptCommandV2,
)
from tentacle.scripts.engine import RunStatus, ScriptEngine, StartRequest
from tentacle.services.dispatch import Files, ServiceMethod
from tentacle.services.script_support import script_body, script_trace, workspace_files


class ScriptServiceV2:
    name = "IScriptServiceV2"
    implementation = "Octopus.Tentacle.Core.Services.Scripts.ScriptServiceV2"

    def __init__(self, engine: ScriptEngine) -> None:
        self._engine = engine

    @property
    def methods(self) -> Mapping[str, ServiceMethod]:
        return {
            "StartScript": self._start,
            "GetStatus": self._status,
            "CancelScript": self._cancel,
            "CompleteScript": self._complete,
        }

    async def _start(self, arguments: tuple[Any, ...], files: Files) -> ScriptStatusResponseV2:
        command: StartScriptCommandV2 = arguments[0]
        request = StartRequest(
            ticket=command.script_ticket.task_id,
            body=script_body(command.script_body, command.scripts),
            isolation=command.isolation,
            mutex_name=command.isolation_mutex_name,
            mutex_timeout=command.script_isolation_mutex_timeout,
            arguments=command.arguments,
            task_id=command.task_id,
            files=workspace_files(command.files, files),
            trace=script_trace(),
        )
        status = await self._engine.start_script(request, command.duration_to_wait_for_script_to_finish)
        return _response(command.script_ticket, status, 0)

    async def _status(self, arguments: tuple[Any, ...], _files: Files) -> ScriptStatusResponseV2:
        command: ScriptStatusRequestV2 = arguments[0]
        status = await self._engine.status(command.ticket.task_id, command.last_log_sequence)
        return _response(command.ticket, status, command.last_log_sequence)

    async def _cancel(self, arguments: tuple[Any, ...], _files: Files) -> ScriptStatusResponseV2:
        command: CancelScriptCommandV2 = arguments[0]
        status = await self._engine.cancel(command.ticket.task_id, command.last_log_sequence)
        return _response(command.ticket, status, command.last_log_sequence)

    async def _complete(self, arguments: tuple[Any, ...], _files: Files) -> None:
        command: CompleteScriptCommandV2 = arguments[0]
        await self._engine.complete(command.ticket.task_id)


def _response(ticket: ScriptTicket, status: RunStatus | None, after: int) -> ScriptStatusResponseV2:
    """The answer repeats the caller's ticket as it was written.  An unknown one is complete, with its own exit code."""
    if status is None:
        return ScriptStatusResponseV2(ticket, (), max(after, 0), ProcessState.COMPLETE, ScriptExitCode.UNKNOWN_SCRIPT)
    return ScriptStatusResponseV2(ticket, status.entries, status.next_sequence, status.state, status.exit_code)
