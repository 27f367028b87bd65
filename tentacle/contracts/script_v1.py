"""Script service V1: the agent makes the ticket, a start is not idempotent (docs/spec/services.md, "Types" and
"Script service V1").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import timedelta

from tentacle.contracts.codec import Long, contract
from tentacle.contracts.script import (
    ProcessOutput,
    ProcessState,
    ScriptFile,
    ScriptIsolationLevel,
    ScriptTicket,
    ScriptType,
    legacy,
)
from tentacle.records import dataclass


@contract(*legacy("StartScriptCommand"))
@dataclass(frozen=True)
class StartScriptCommand:
    """Old servers send neither `scripts` nor `isolation_mutex_name` (docs/spec/wire.md, "Old versions")."""

    script_body: str = field(default="", repr=False)
    isolation: ScriptIsolationLevel = ScriptIsolationLevel.NO_ISOLATION
    scripts: Mapping[ScriptType, str] = field(default_factory=dict, repr=False)
    files: tuple[ScriptFile, ...] = ()
    arguments: tuple[str, ...] = field(default=(), repr=False)
    task_id: str | None = None
    script_isolation_mutex_timeout: timedelta = timedelta(0)
    isolation_mutex_name: str | None = None


@contract(*legacy("ScriptStatusRequest"))
@dataclass(frozen=True)
class ScriptStatusRequest:
    ticket: ScriptTicket
    last_log_sequence: Long = 0


@contract(*legacy("CancelScriptCommand"))
@dataclass(frozen=True)
class CancelScriptCommand:
    ticket: ScriptTicket
    last_log_sequence: Long = 0


@contract(*legacy("CompleteScriptCommand"))
@dataclass(frozen=True)
class CompleteScriptCommand:
    ticket: ScriptTicket
    last_log_sequence: Long = 0


@contract(*legacy("ScriptStatusResponse"))
@dataclass(frozen=True)
class ScriptStatusResponse:
    ticket: ScriptTicket
    logs: Sequence[ProcessOutput]
    next_log_sequence: Long
    state: ProcessState
    exit_code: int
