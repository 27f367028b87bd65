"""What is asked of the engine and what it answers; how it is set up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from datetime import timedelta
from pathlib import Path

from tentacle.contracts.script import ProcessOutput, ProcessState, ScriptIsolationLevel
from tentacle.records import dataclass
from tentacle.scripts.sandbox.sandbox import SandboxOptions
from tentacle.scripts.workspace.workspaces import FOR_A_SCRIPT, WorkspaceFile

_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class EngineOptions:
    """Times in seconds, sizes in bytes.  `minimum_free_bytes` of `None` starts scripts on a full disk too."""

    cancel_grace: float = 5.0
    cancel_answer: float = 0.1
    """For which a cancel waits for the end before it answers, since most scripts end at once."""
    page_bytes: int = 8 * _MEBIBYTE
    line_limit: int = _MEBIBYTE
    minimum_free_bytes: int | None = FOR_A_SCRIPT
    busy_after: float = 0.1
    busy_every: float = 600.0
    sandbox: SandboxOptions = field(default_factory=SandboxOptions)
    launcher: Path | None = None
    """The socket of the service that starts scripts; without it a process of this agent's own does."""
    try_out: bool = False
    """Runs an empty script at the start, whether or not the sandbox asks for anything."""


@dataclass(frozen=True)
class StartRequest:
    """What to run and how.  A `mutex_timeout` of zero, an empty `task_id` and no `mutex_name` mean the defaults.

    `trace` is a `traceparent` for the script's environment, or empty.
    """

    ticket: str
    body: str = field(repr=False)
    isolation: ScriptIsolationLevel = ScriptIsolationLevel.NO_ISOLATION
    mutex_name: str | None = None
    mutex_timeout: timedelta = timedelta(0)
    arguments: tuple[str, ...] = field(default=(), repr=False)
    task_id: str | None = None
    files: tuple[WorkspaceFile, ...] = ()
    trace: str = ""


@dataclass(frozen=True)
class RunStatus:
    """`exit_code` is valid once `state` is complete, which is reported only with the last page of the log."""

    state: ProcessState
    exit_code: int
    entries: Sequence[ProcessOutput]
    next_sequence: int
