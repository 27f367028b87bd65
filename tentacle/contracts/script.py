"""The types that both script services use: tickets, states, log entries, files (docs/spec/services.md, "Types")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from itertools import groupby, repeat
from operator import attrgetter
from typing import overload

from tentacle.contracts.codec import Milliseconds, WireEnum, contract
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.packed_entries import EntryRun, pack_entries
from tentacle.records import dataclass

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


@contract(NEW.format("ProcessOutput"), pack=lambda entries: pack_entries(_runs(entries)))
@dataclass(frozen=True, slots=True)
class ProcessOutput:
    """One entry of a script's log.  `occurred` is in milliseconds since 1970."""

    source: ProcessOutputSource
    occurred: Milliseconds
    text: str


class LogEntries(Sequence[ProcessOutput]):
    """Many entries of a log as the runs that were written together; each is made when somebody looks at it."""

    def __init__(self, runs: Iterable[EntryRun] = ()) -> None:
        self.runs = tuple(runs)
        self._length = sum(len(texts) for _, _, texts in self.runs)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[ProcessOutput]:
        for source, occurred, texts in self.runs:
            yield from map(ProcessOutput, repeat(ProcessOutputSource(source)), repeat(occurred), texts)

    @overload
    def __getitem__(self, index: int) -> ProcessOutput: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ProcessOutput]: ...
    def __getitem__(self, index: int | slice) -> ProcessOutput | Sequence[ProcessOutput]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"LogEntries({tuple(self)!r})"


def _runs(entries: Sequence[ProcessOutput]) -> Iterable[EntryRun]:
    if isinstance(entries, LogEntries):
        return entries.runs
    together = groupby(entries, attrgetter("source", "occurred"))
    return ((*written, [entry.text for entry in group]) for written, group in together)


@contract(*legacy("ScriptFile"))
@dataclass(frozen=True)
class ScriptFile:
    """A file that goes into the workspace; encrypted there when it carries a password (even an empty one)."""

    name: str
    contents: DataStream
    encryption_password: str | None = field(default=None, repr=False)
