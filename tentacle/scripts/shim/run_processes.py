"""Finds and kills all processes of a run.

Four ways lead from a run to its processes: the cgroup that they were born in; the chain of parents, which ends at the
shim, because it adopts orphans; the mark in their environment, which finds what another process has started for them or
what outlived the shim; and the user, where the run has one of its own.  A process would have to escape all four, and
killing is repeated until none of them finds a process.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tentacle.scripts.shim.process_tree import descendants, is_alive, processes, signal_all
from tentacle.scripts.shim.run_cgroup import RunCgroup
from tentacle.scripts.shim.small_files import read_file

MARK = "TENTACLE_RUN"
"""The variable that marks the processes of a run."""
MARK_LENGTH = 32
_PAUSE = 0.002


class RunProcesses:
    """The processes of one run.  `root` is its shim, if there is one; `uid` is the user that only this run has."""

    def __init__(self, root: int | None, mark: str, cgroup: RunCgroup | None = None, uid: int | None = None) -> None:
        self._root = root
        self._mark = f"{MARK}={mark}".encode()
        self._cgroup = cgroup
        self._uid = uid
        self.leader = 0
        """The script's first process, whose number is that of its group; 0 when it is not known."""

    def find_fast(self) -> list[int]:
        """Returns the processes that are found fast: in the cgroup, and below the shim.  There are rarely others."""
        found = [] if self._root is None else descendants(self._root)
        if not found and self.leader and not processes():
            # Without /proc only those are found that have not left the script's own group.
            found = [-self.leader] if _has_members(self.leader) else []
        if self._cgroup is not None:
            known = set(found)
            found += [pid for pid in self._cgroup.pids() if pid not in known and is_alive(pid)]
        return [pid for pid in found if pid not in (os.getpid(), self._root)]

    def find_all(self) -> list[int]:
        """Returns the processes that any of the four ways finds."""
        found = self.find_fast()
        known = {*found, os.getpid(), self._root}
        for pid in map(int, processes()):
            if pid in known:
                continue
            by_mark = self._mark in read_file(f"/proc/{pid}/environ").split(b"\0")
            if by_mark or (self._uid is not None and self._uid in real_and_saved_uids(pid) and is_alive(pid)):
                found.append(pid)
        return found

    def kill(self, meanwhile: Callable[[], object], seconds: float) -> list[int]:
        """Kills until no process is found or `seconds` have passed; returns the processes that are left.

        Stops them all before it kills, because some may fork faster than they are found.  Calls `meanwhile` repeatedly,
        to reap.
        """
        give_up = time.monotonic() + seconds
        refused: set[int] = set()
        while found := [pid for pid in self.find_fast() or self.find_all() if pid not in refused]:
            if time.monotonic() > give_up:
                break
            if self._cgroup is not None:
                self._cgroup.kill()
            refused |= self._freeze(found)
            signal_all(found, signal.SIGKILL)
            signal_all(self.find_fast(), signal.SIGKILL)
            meanwhile()
            time.sleep(_PAUSE)
        return self.find_all()

    def _freeze(self, found: list[int]) -> set[int]:
        """Stops the processes, and new ones, until there are none; returns those that this process may not signal."""
        stopped: set[int] = set()
        refused: set[int] = set()
        for _ in range(20):
            new = [pid for pid in found if pid not in stopped]
            if not new:
                break
            refused |= signal_all(new, signal.SIGSTOP)
            stopped.update(new)
            found = self.find_fast()
        return refused


def living_marks(prefix: str) -> frozenset[str]:
    """The marks of all runs of which a process lives, with the ends of the names of all their cgroups.

    The name of a run's cgroup begins with `prefix`, and ends with what is as long as a mark.
    """
    found: set[str] = set()
    for pid in processes():
        for line in read_file(f"/proc/{pid}/environ").split(b"\0"):
            name, _, value = line.partition(b"=")
            if name == MARK.encode():
                found.add(os.fsdecode(value))
        for line in read_file(f"/proc/{pid}/cgroup").splitlines():
            cgroup = os.fsdecode(line.rpartition(b"/")[2])
            if cgroup.startswith(prefix):
                found.add(cgroup[-MARK_LENGTH:])
    return frozenset(found)


def unkillable(pid: int) -> str:
    """Returns the line of the log about a process of the script that could not be killed."""
    return f"Failed to kill the launched process and its children: {pid}"


def real_and_saved_uids(pid: int) -> tuple[int, ...]:
    """Returns the real, effective and saved user of the process; empty when it is gone."""
    for line in read_file(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"Uid:"):
            return tuple(int(word) for word in line.split()[1:4])
    return ()


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return True
