"""The types that both script services use: tickets, states, log entries, files (docs/spec/services.md, "Types")."""

from __future__ import annotations

from dataclasses import dataclass, field

from tentacle.contracts.codec import Milliseconds, WireEnum, contract
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.packed_entries import pack_entries

NEW = "Octopus.Tentacle.Contracts.{0}, Octopus.Tentacle.Contracts"
OLD = "Octopus.Shared.Contracts.{0}, Octopus.Shared"


def legacy(name: str) -> tuple[str, str]:
    """The two names of a V1 type; the first is the one that is written (docs/spec/services.md, "Legacy type names")."""
    return OLD.format(name), NEW.format(name)


class ProcessState(WireEnum):
    PENDING = 0
    RUNNING = 1
    COMPLETE = 2


class ProcessOutputSource(WireEnum):
    STD_OUT = 0
    STD_ERR = 1
    DEBUG = 2


class ScriptIsolationLevel(WireEnum):
    NO_ISOLATION = 0
    FULL_ISOLATION = 1


class ScriptType(WireEnum):
    POWERSHELL = 0
    BASH = 1

    @property
    def wire_name(self) -> str:
        return "PowerShell" if self is ScriptType.POWERSHELL else "Bash"


@contract(*legacy("ScriptTicket"))
@dataclass(frozen=True)
class ScriptTicket:
    """Names one run.  Two tickets that differ only by case are the same run."""

    task_id: str


@contract(NEW.format("ProcessOutput"), pack=pack_entries)
@dataclass(frozen=True, slots=True)
class ProcessOutput:
    """One entry of a script's log.  `occurred` is in milliseconds since 1970."""

    source: ProcessOutputSource
    occurred: Milliseconds
    text: str


@contract(*legacy("ScriptFile"))
@dataclass(frozen=True)
class ScriptFile:
    """A file that goes into the workspace; encrypted there when it carries a password (even an empty one)."""

    name: str
    contents: DataStream
    encryption_password: str | None = field(default=None, repr=False)
