"""What a script can change of its shim from outside, and a later script would inherit."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

from tentacle.scripts.shim.small_files import read_file
from tentacle.scripts.shim.syscalls import io_priority

_LIMITS = 16
"""Linux knows so many kinds of resource limits."""
_PROCESS_FILES = ("oom_score_adj", "coredump_filter", "timerslack_ns")
_CGROUP_FILES = (
    "cgroup.freeze", "cgroup.max.depth", "cgroup.max.descendants", "cgroup.subtree_control", "cgroup.type",
    "cpu.idle", "cpu.max", "cpu.weight", "memory.high", "memory.max", "memory.swap.max", "pids.max",
)  # fmt: skip


def inherited_state(cgroup: str | None) -> tuple[object, ...]:
    """Returns a value that is another one when a script has changed anything.

    `cgroup` is the directory of the cgroup that the shim shares with its scripts, if it does.
    """
    limits = [_or_none(resource.getrlimit, number) for number in range(_LIMITS)]
    files = [read_file(f"/proc/self/{name}") for name in _PROCESS_FILES]
    names: list[str] = []
    if cgroup is not None:
        # A cgroup below it is a name too.
        names = os.listdir(cgroup)  # noqa: PTH208
        files += [read_file(f"{cgroup}/{name}") for name in _CGROUP_FILES if name in names]
    processor = (
        _or_none(os.getpriority, os.PRIO_PROCESS, 0),
        _or_none(os.sched_getaffinity, 0),
        _or_none(os.sched_getscheduler, 0),
    )
    return processor, io_priority(), limits, files, names


def _or_none(ask: Callable[..., object], *arguments: int) -> object:
    """What a filter of system calls keeps from us it keeps from the script too, which could not have changed it."""
    try:
        return ask(*arguments)
    except (OSError, ValueError):
        return None
