"""Script service V2: the caller names the ticket, a start may be repeated (docs/spec/services.md, "Types" and
"Script service V2").
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
)
from tentacle.records import dataclass

V2 = "Octopus.Tentacle.Contracts.ScriptServiceV2.{0}, Octopus.Tentacle.Contracts"


@contract(V2.format("StartScriptCommandV2"))
@dataclass(frozen=True)
class StartScriptCommandV2:
    """`duration_to_wait_for_script_to_finish` of `None` asks for an answer at once."""

    script_ticket: ScriptTicket
    script_body: str = field(default="", repr=False)
    task_id: str | None = None
    duration_to_wait_for_script_to_finish: timedelta | None = None
    isolation: ScriptIsolationLevel = ScriptIsolationLevel.NO_ISOLATION
    script_isolation_mutex_timeout: timedelta = timedelta(0)
    isolation_mutex_name: str | None = None
    scripts: Mapping[ScriptType, str] = field(default_factory=dict, repr=False)
    files: tuple[ScriptFile, ...] = ()
    arguments: tuple[str, ...] = field(default=(), repr=False)


@contract(V2.format("ScriptStatusRequestV2"))
@dataclass(frozen=True)
class ScriptStatusRequestV2:
    ticket: ScriptTicket
    last_log_sequence: Long = 0


@contract(V2.format("CancelScriptCommandV2"))
@dataclass(frozen=True)
class CancelScriptCommandV2:
    ticket: ScriptTicket
    last_log_sequence: Long = 0


@contract(V2.format("CompleteScriptCommandV2"))
@dataclass(frozen=True)
class CompleteScriptCommandV2:
    ticket: ScriptTicket


@contract(V2.format("ScriptStatusResponseV2"))
@dataclass(frozen=True)
class ScriptStatusResponseV2:
    ticket: ScriptTicket
    logs: Sequence[ProcessOutput]
    next_log_sequence: Long
    state: ProcessState
    exit_code: int
