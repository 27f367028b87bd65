"""What a script can change of its shim from outside, and a later script would inherit."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from tentacle.scripts.shim.small_files import read_file
from tentacle.scripts.shim.syscalls import io_priority

_LIMITS = 16
"""Linux knows so many kinds of resource limits."""
_PROCESS_FILES = ("oom_score_adj", "coredump_filter", "timerslack_ns")
T = TypeVar("T")
_CGROUP_FILES = (
    "cgroup.freeze", "cgroup.max.depth", "cgroup.max.descendants", "cgroup.subtree_control", "cgroup.type",
    "cpu.idle", "cpu.max", "cpu.weight", "memory.high", "memory.max", "memory.swap.max", "pids.max",
)  # fmt: skip


class InheritedState(NamedTuple):
    """The state of one process that its children inherit: another value when anything of it was changed."""

    limits: tuple[tuple[int, int] | None, ...]
    processor: tuple[object, ...]
    files: tuple[bytes, ...]

    def restore_limits(self) -> None:
        """Gives the calling process these limits again, as far as it may: root all of them, others the soft ones."""
        for number, wanted in enumerate(self.limits):
            present = _or_none(resource.getrlimit, number)
            if wanted is None or present is None or present == wanted:
                continue
            for limit in (wanted, (wanted[0], present[1])):
                with contextlib.suppress(OSError, ValueError):
                    resource.setrlimit(number, limit)
                    break


def process_state() -> InheritedState:
    """Returns the state of the calling process."""
    return InheritedState(
        tuple(_or_none(resource.getrlimit, number) for number in range(_LIMITS)),
        (
            _or_none(os.getpriority, os.PRIO_PROCESS, 0),
            _or_none(os.sched_getaffinity, 0),
            _or_none(os.sched_getscheduler, 0),
            io_priority(),
        ),
        tuple(read_file(f"/proc/self/{name}") for name in _PROCESS_FILES),
    )


def cgroup_state(cgroup: str | None) -> tuple[object, ...]:
    """Returns the state of the cgroup that the shim shares with its scripts, if it does."""
    if cgroup is None:
        return ()
    # A cgroup below it is a name too.
    names = os.listdir(cgroup)  # noqa: PTH208
    return names, [read_file(f"{cgroup}/{name}") for name in _CGROUP_FILES if name in names]


def _or_none(ask: Callable[..., T], *arguments: int) -> T | None:
    """What a filter of system calls keeps from us it keeps from the script too, which could not have changed it."""
    try:
        return ask(*arguments)
    except (OSError, ValueError):
        return None
