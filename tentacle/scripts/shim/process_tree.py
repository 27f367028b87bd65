"""Finds and signals the descendants of a process.

A shim is a child subreaper.  So every process that its script starts, even if it forks again, detaches or changes its
session, keeps a chain of parents that leads to the shim, and /proc shows it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable


def _status(pid: str) -> tuple[int, bool] | None:
    """Returns the parent of process `pid` and whether it is alive; `None` when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is too much for a small process
            fields = file.read().rpartition(b")")[2].split()
    except OSError:  # it has gone, or /proc hides it
        return None
    # A process whose first thread has ended looks dead while its other threads (field 20) run on.
    alive = fields[0] not in (b"Z", b"X") or int(fields[17]) > 1
    return int(fields[1]), alive


def processes() -> list[str]:
    """Returns the numbers of all processes that /proc shows; none where there is no /proc."""
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Returns whether the process exists and has not ended."""
    status = _status(str(pid))
    return status is not None and status[1]


def descendants(root: int) -> list[int]:
    """Returns the living descendants of `root`, parents before their children."""
    children: dict[int, list[int]] = {}
    living = set()
    for name in processes():
        if (status := _status(name)) is not None:
            children.setdefault(status[0], []).append(int(name))
            if status[1]:
                living.add(int(name))
    found = list(children.get(root, ()))
    for pid in found:
        found.extend(children.get(pid, ()))
    return [pid for pid in found if pid in living]


def signal_all(pids: Iterable[int], number: int) -> set[int]:
    """Signals each; returns those that this process may not signal."""
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
    """Asks each to end; wakes stopped processes, so that they receive the signal."""
    for pid in pids:
        signal_all((pid,), signal.SIGTERM)
        signal_all((pid,), signal.SIGCONT)
