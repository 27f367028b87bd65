"""The sandboxes that the tests run scripts in, and how to find the processes of a script that hides."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from tentacle.scripts.engine import EngineOptions
from tentacle.scripts.sandbox.cgroups import CgroupParents, ScriptLimits, find_cgroup_parents
from tentacle.scripts.sandbox.sandbox import Mode, SandboxOptions
from tentacle.scripts.sandbox.uids import UidRange

SANDBOXES = {
    "tree": SandboxOptions(use_cgroup=False),
    "cgroup": SandboxOptions(),
    "private": SandboxOptions(Mode.PRIVATE, use_cgroup=False),
    "private, cgroup": SandboxOptions(Mode.PRIVATE),
    "user": SandboxOptions(Mode.USER, use_cgroup=False),
    "user, cgroup": SandboxOptions(Mode.USER),
}

ADD_KEY, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219), "riscv64": (217, 219)}[os.uname().machine]
"""The numbers of these system calls."""


def options(sandbox: SandboxOptions, **more: Any) -> EngineOptions:
    return EngineOptions(**{"cancel_grace": 0.3, "minimum_free_bytes": None, "sandbox": sandbox, **more})


def own_uids(count: int = 50) -> UidRange:
    """A range that no other test that runs at the same time has."""
    first = 100_000_000 + os.getpid() % 1_000_000 * 100
    return UidRange(first, first + count - 1)


def cgroup_parents(limits: ScriptLimits | None = None) -> CgroupParents:
    """Returns where cgroups can be made here; tests that need one fail where there is none."""
    found = find_cgroup_parents(limits or ScriptLimits())
    assert found is not None, (
        "These tests need a writable cgroup: run them as root, or as `systemd-run --user --scope -p Delegate=yes ...`"
    )
    return found


def living(*tokens: str) -> list[int]:
    """The processes, but zombies, with one of the tokens in their command line: a cleared environment hides nobody."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and any(token.encode() in (process / "cmdline").read_bytes() for token in tokens):
                found.append(int(process.name))
    return found
