"""Every script that is known here, with its state and what it uses: from the files of the runs, and from `/proc`.

Right with and without an agent.  Reads only; locks and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tentacle.records import dataclass
from tentacle.scripts.history import EndedScript
from tentacle.scripts.shim.process_tree import descendants
from tentacle.scripts.shim.small_files import read_file
from tentacle.scripts.workspace.run_directory import RunDirectory
from tentacle.scripts.workspace.run_files import Stage

WAITING, RUNNING, ENDED, LOST = "waiting", "running", "ended", "lost"
"""`waiting`: for its mutex, or for the next agent; `lost`: it was started, and nothing says how it ended."""
_STATES: Final = {Stage.PREPARED: WAITING, Stage.RUNNING: RUNNING, Stage.ENDED: ENDED, Stage.LOST: LOST}
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ScriptProcess:
    """A process of a running script."""

    pid: int
    name: str


@dataclass(frozen=True)
class KnownScript:
    """One script.  Times are seconds since 1970; `since` is when it was asked for.

    `cpu` are seconds, `memory` bytes: of a running script what its living processes and their ended children have
    used and what they have in memory now, of an ended one the sum of all and the most that one process had.  `shim` is
    the process that watches it.  None: not known, or not yet.
    """

    ticket: str
    task: str
    state: str
    since: float
    ended: float | None = None
    exit_code: int | None = None
    cpu: float | None = None
    memory: int | None = None
    shim: int | None = None
    processes: tuple[ScriptProcess, ...] = ()


def known_scripts(work: Path, history: Iterable[EndedScript]) -> list[KnownScript]:
    """Those of the run files below `work`, and of the history; the last one that was asked for comes last.

    Raises `OSError` when the directory of all runs may not be read.
    """
    runs = RunDirectory(work)
    found = {_key(one.ticket, one.since): _ended(one) for one in history}
    for name in runs.names():
        looked = runs.look(name)
        if looked is None:
            continue
        header, state = looked
        since = header.created / 1000
        if state.result is not None:
            one = _ended(EndedScript.of(header, state.result))
        elif state.stage is Stage.RUNNING:
            one = _running(header.ticket, header.task, since, state.pid)
        else:
            one = KnownScript(header.ticket, header.task, _STATES[state.stage], since)
        found[_key(one.ticket, one.since)] = one
    return sorted(found.values(), key=lambda one: one.since)


def _key(ticket: str, since: float) -> tuple[str, float]:
    return ticket.casefold(), since


def _ended(one: EndedScript) -> KnownScript:
    return KnownScript(one.ticket, one.task, ENDED, one.since, one.ended, one.exit_code, one.cpu, one.memory)


def _running(ticket: str, task: str, since: float, shim: int) -> KnownScript:
    cpu, memory, processes = 0, 0, []
    for pid in _living(shim):
        name, fields = read_process(pid)
        if fields:
            processes.append(ScriptProcess(pid, name))
            cpu += sum(int(field) for field in fields[11:15])
            memory += int(fields[21]) * _PAGE
    if not processes:
        return KnownScript(ticket, task, RUNNING, since, shim=shim)
    return KnownScript(ticket, task, RUNNING, since, None, None, cpu / _TICK, memory, shim, tuple(processes))


def _living(shim: int) -> list[int]:
    try:
        return descendants(shim)
    except OSError:
        # /proc is not there, or hidden.
        return []


def read_process(pid: int) -> tuple[str, list[bytes]]:
    """The name of a process, and what follows it in `/proc/PID/stat` (proc_pid_stat(5)); nothing when it has gone."""
    before, _, after = read_file(f"/proc/{pid}/stat").rpartition(b")")
    fields = after.split()
    if len(fields) < 22 or not all(field.lstrip(b"-").isdigit() for field in (*fields[11:15], fields[21])):
        return "", []
    return before.partition(b"(")[2].decode("utf-8", "replace"), fields
