"""Finds and signals everything that descends from a process.

Who watches over a script is a child subreaper: whatever the script starts, however often it forks, detaches or changes
its session, keeps a chain of parents that leads there.  So /proc tells all of it.

Standard library only: part of the shim.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator


def _status(pid: str) -> tuple[int, bool] | None:
    """Parent and whether there is still life in process `pid`."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is too much for a small process
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # A process whose first thread has ended looks dead while its other threads (field 20) run on.
    alive = fields[0] not in (b"Z", b"X") or int(fields[17]) > 1
    return int(fields[1]), alive


def is_alive(pid: int) -> bool:
    """True for a process that exists and has not ended."""
    status = _status(str(pid))
    return status is not None and status[1]


def descendants(root: int) -> list[int]:
    """The living processes below `root`, parents before their children."""
    children: dict[int, list[int]] = {}
    living = set()
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and (status := _status(name)) is not None:
            children.setdefault(status[0], []).append(int(name))
            if status[1]:
                living.add(int(name))
    return [pid for pid in _below(root, children) if pid in living]


def _below(root: int, children: dict[int, list[int]]) -> Iterator[int]:
    todo = list(children.get(root, ()))
    for pid in todo:
        yield pid
        todo.extend(children.get(pid, ()))


def signal_all(pids: Iterable[int], number: int) -> set[int]:
    """Signals each; gives those that we were not allowed to signal."""
    refused = set()
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            refused.add(pid)
    return refused


def terminate(pids: Iterable[int]) -> None:
    """Asks each to end; a stopped one is woken, so that it hears it."""
    for pid in pids:
        signal_all((pid,), signal.SIGTERM)
        signal_all((pid,), signal.SIGCONT)
