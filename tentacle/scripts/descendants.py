"""Finds and ends everything that descends from a process.

The caller is a child subreaper: whatever a script starts, however often it forks, detaches or changes its session,
keeps a chain of parents that leads to the caller.  So /proc tells all of it, and killing is repeated until it tells
nothing any more.

Imported by the processes that watch over scripts: standard library only, and little of it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator


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


def kill_all(root: int, meanwhile: Callable[[], None], seconds: float) -> list[int]:
    """Kills everything below `root` until nothing is found; gives what is left when `seconds` have passed.

    What forks faster than we look is stopped first, then killed.  `meanwhile` is called again and again, to reap.
    """
    give_up = time.monotonic() + seconds
    refused: set[int] = set()
    while found := [pid for pid in descendants(root) if pid not in refused]:
        if time.monotonic() > give_up:
            break
        refused |= _freeze(root, found)
        signal_all(found, signal.SIGKILL)
        signal_all(descendants(root), signal.SIGKILL)
        meanwhile()
        time.sleep(0.002)
    return descendants(root)


def _freeze(root: int, found: list[int]) -> set[int]:
    """Stops everything below `root`, as long as somebody new turns up; gives those that we may not touch."""
    stopped: set[int] = set()
    refused: set[int] = set()
    for _ in range(20):
        new = [pid for pid in found if pid not in stopped]
        if not new:
            break
        refused |= signal_all(new, signal.SIGSTOP)
        stopped.update(new)
        found = descendants(root)
    return refused
