"""Everything that belongs to a run, and its end.

Four ways lead from a run to its processes: the cgroup that they were born in; the chain of parents, which ends at the
process that watches over the run, since orphans fall to it; the mark in their environment, which finds what another
process has started for them or what outlived its shim; and the user, where the run has one of its own.  A process
would have to leave all of them, so killing is repeated until none of the ways finds anybody.

Standard library only: part of the shim.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

from tentacle.scripts.shim.process_tree import descendants, is_alive, signal_all
from tentacle.scripts.shim.run_cgroup import RunCgroup

MARK = "TENTACLE_RUN"
"""The variable that marks the processes of a run."""
_PAUSE = 0.002


class RunProcesses:
    """The processes of one run.  `root` watches over it, if anybody does; `uid` is that of the run alone."""

    def __init__(self, root: int | None, mark: str, cgroup: RunCgroup | None = None, uid: int | None = None) -> None:
        self._root = root
        self._mark = f"{MARK}={mark}".encode()
        self._cgroup = cgroup
        self._uid = uid

    def find_fast(self) -> list[int]:
        """Those that are quickly found: in the cgroup, and below the root; the others are all but never there."""
        found = [] if self._root is None else descendants(self._root)
        if self._cgroup is not None:
            known = set(found)
            found += [pid for pid in self._cgroup.pids() if pid not in known and is_alive(pid)]
        return [pid for pid in found if pid not in (os.getpid(), self._root)]

    def find_all(self) -> list[int]:
        """Those that any of the ways finds."""
        fast = self.find_fast()
        known = {*fast, os.getpid(), self._root}
        return fast + [pid for pid in _all_processes() if pid not in known and self._is_ours(pid)]

    def kill(self, meanwhile: Callable[[], object], seconds: float) -> list[int]:
        """Kills until nobody is found; gives who is left when `seconds` have passed.

        What forks faster than we look is stopped first, then killed.  `meanwhile` is called again and again, to reap.
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
        """Stops everybody, as long as somebody new turns up; gives those that we may not touch."""
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

    def _is_ours(self, pid: int) -> bool:
        if self._mark in _read(pid, "environ").split(b"\0"):
            return True
        return self._uid is not None and self._uid in real_and_saved_uids(pid) and is_alive(pid)


def real_and_saved_uids(pid: int) -> tuple[int, ...]:
    """Under which users the process runs: real, effective and saved; none when it has gone."""
    for line in _read(pid, "status").splitlines():
        if line.startswith(b"Uid:"):
            return tuple(int(word) for word in line.split()[1:4])
    return ()


def _all_processes() -> Iterator[int]:
    yield from (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""
