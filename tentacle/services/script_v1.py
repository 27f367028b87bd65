"""Script service V1 (docs/spec/services.md, "Script service V1"): the agent makes the ticket, and nothing may be
repeated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tentacle.contracts.script import ProcessState, ScriptTicket
from tentacle.contracts.script_v1 import (
    CancelScriptCommand,
    CompleteScriptCommand,
    ScriptStatusRequest,
    ScriptStatusResponse,
    StartScriptCommand,
)
from tentacle.scripts.engine import RunStatus, ScriptEngine, StartRequest
from tentacle.scripts.workspace.validation import require_ticket
from tentacle.services.dispatch import Files, ServiceMethod
from tentacle.services.script_support import script_body, script_trace, workspace_files

_TASK_PREFIX = "ServerTasks-"


class ScriptServiceV1:
    """`now` returns the time in UTC, for tickets."""

    name = "IScriptService"
    implementation = "Octopus.Tentacle.Services.Scripts.ScriptService"

    def __init__(self, engine: ScriptEngine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now
        self._numbers = itertools.count(1)

    @property
    def methods(self) -> Mapping[str, ServiceMethod]:
        return {
            "StartScript": self._start,
            "GetStatus": self._status,
            "CancelScript": self._cancel,
            "CompleteScript": self._complete,
        }

    async def _start(self, arguments: tuple[Any, ...], files: Files) -> ScriptTicket:
        command: StartScriptCommand = arguments[0]
        ticket = self._new_ticket(command.task_id)
        await self._engine.start_script(
            StartRequest(
                ticket=ticket,
                body=script_body(command.script_body, command.scripts),
                isolation=command.isolation,
                mutex_name=command.isolation_mutex_name,
                mutex_timeout=command.script_isolation_mutex_timeout,
                arguments=command.arguments,
                task_id=command.task_id,
                files=workspace_files(command.files, files),
                trace=script_trace(),
            )
        )
        return ScriptTicket(ticket)

    async def _status(self, arguments: tuple[Any, ...], _files: Files) -> ScriptStatusResponse:
        command: ScriptStatusRequest = arguments[0]
        status = await self._engine.status(command.ticket.task_id, command.last_log_sequence)
        return _response(command.ticket, status, command.last_log_sequence)

    async def _cancel(self, arguments: tuple[Any, ...], _files: Files) -> ScriptStatusResponse:
        command: CancelScriptCommand = arguments[0]
        status = await self._engine.cancel(command.ticket.task_id, command.last_log_sequence)
        return _response(command.ticket, status, command.last_log_sequence)

    async def _complete(self, arguments: tuple[Any, ...], _files: Files) -> ScriptStatusResponse:
        command: CompleteScriptCommand = arguments[0]
        status = await self._engine.status(command.ticket.task_id, command.last_log_sequence)
        await self._engine.complete(command.ticket.task_id)
        return _response(command.ticket, status, command.last_log_sequence)

    def _new_ticket(self, task_id: str | None) -> str:
        """A ticket as the original makes it, but never one that has a workspace already.

        The counter begins anew with each agent, but two starts of one task within a second must still be two runs.
        Raises `InvalidTicketError` when the task's id cannot be part of a directory's name.
        """
        task = (task_id or "").replace(_TASK_PREFIX, "")
        while True:
            ticket = require_ticket(f"{self._now():%Y%m%d%H%M%S}-{task}-{next(self._numbers)}")
            if not self._engine.is_known(ticket):
                return ticket


def _response(ticket: ScriptTicket, status: RunStatus | None, after: int) -> ScriptStatusResponse:
    """An unknown ticket is complete with exit code 0, as old clients expect."""
    if status is None:
        return ScriptStatusResponse(ticket, (), max(after, 0), ProcessState.COMPLETE, 0)
    return ScriptStatusResponse(ticket, status.entries, status.next_sequence, status.state, status.exit_code)
