"""Where the agent may make a cgroup for each run, and what its limits are called there.

Knows both versions of cgroups: version 2 (the unified hierarchy) for everything; version 1 (a legacy hierarchy per
controller) only for limits whose controller the host has given to version 1.  The cgroup of a running script is the
business of `shim/run_cgroup.py`.

A cgroup of version 2 that enables controllers for those below must not hold processes itself.  So if there are limits,
the agent moves into a leaf, with all processes beside it.  For that the cgroup must be delegated to the agent: by
systemd (`Delegate=yes`), or by a container.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from tentacle.records import dataclass
from tentacle.scripts.errors import SandboxUnavailableError
from tentacle.scripts.shim.run_cgroup import LEAF, PROCESSES, remove_empty, tree
from tentacle.scripts.shim.run_order import CgroupLimit, CgroupNote, CgroupOrder

PREFIX = "tentacle-run-"
_PERIOD = 100_000
"""Microseconds over which the limit of processors is measured."""
_MEBIBYTE = 1024 * 1024
_DELEGATION_MARKS = ("trusted.delegate", "user.delegate")


@dataclass(frozen=True)
class ScriptLimits:
    """The limits of one script: `memory` in bytes, `cpu` in processors (1.5 is one and a half), `tasks` at a time."""

    memory: int | None = None
    cpu: float | None = None
    tasks: int | None = None

    @property
    def controllers(self) -> tuple[str, ...]:
        wanted = {"memory": self.memory, "cpu": self.cpu, "pids": self.tasks}
        return tuple(name for name, value in wanted.items() if value is not None)

    def __str__(self) -> str:
        parts = [] if self.memory is None else [f"{_amount(self.memory)} of memory"]
        parts += [] if self.cpu is None else [f"{self.cpu:g} processors"]
        parts += [] if self.tasks is None else [f"{self.tasks} tasks"]
        return f"at most {', '.join(parts)} each" if parts else "no limits"


@dataclass(frozen=True)
class Mount:
    """A mounted hierarchy: `root` is the cgroup that is visible at `point`; `controllers` are those of version 1."""

    root: str
    point: str
    unified: bool
    controllers: frozenset[str] = frozenset()

    def directory(self, cgroup: str) -> Path | None:
        """Returns the directory of the cgroup of that name; `None` when it is not visible in this mount."""
        if self.root not in ("/", cgroup) and not cgroup.startswith(f"{self.root}/"):
            return None
        inner = cgroup.removeprefix(self.root).strip("/")
        return None if ".." in inner.split("/") else Path(self.point) / inner


def parse_mounts(text: str) -> list[Mount]:
    """Returns the cgroup hierarchies of `/proc/self/mountinfo`, the latest mount first; skips other lines."""
    found = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = frozenset(kind[2].split(",")) if kind[0] == "cgroup" else frozenset()
        found.append(Mount(_unescape(fields[3]), _unescape(fields[4]), kind[0] == "cgroup2", controllers))
    return found[::-1]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def parse_cgroups(text: str) -> dict[str, str]:
    """Returns the cgroup of a process by controller, from `/proc/PID/cgroup`; version 2 has the empty name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        names, separator, path = rest.partition(":")
        if number.isdigit() and separator and path.startswith("/"):
            found.update(dict.fromkeys(names.split(","), path))
    return found


@dataclass(frozen=True)
class CgroupParents:
    """The directories in which cgroups of runs are made: one of version 2, and those of version 1 by controller."""

    unified: Path | None = None
    legacy: dict[str, Path] = field(default_factory=dict)

    def order(self, name: str, limits: ScriptLimits) -> CgroupOrder:
        """Returns the cgroup of the run of that name, with its limits, as the shim needs it."""
        parents: list[Path] = [] if self.unified is None else [self.unified]
        settings: list[CgroupLimit] = []
        notes: list[CgroupNote] = []
        for controller in limits.controllers:
            parent, legacy = self.legacy.get(controller, self.unified), controller in self.legacy
            if parent is None:
                continue
            if parent not in parents:
                parents.append(parent)
            index = parents.index(parent)
            settings += [CgroupLimit(index, *setting) for setting in _settings(controller, limits, legacy=legacy)]
            notes += [CgroupNote(index, *note) for note in _notes(controller, limits, legacy=legacy)]
        directories = tuple(str(parent / f"{PREFIX}{name}") for parent in parents)
        return CgroupOrder(directories, self.unified is not None, tuple(settings), tuple(notes))

    def occupied(self) -> frozenset[str]:
        """The names of the cgroups of runs that hold processes, also those of users whose processes cannot be seen."""
        found: set[str] = set()
        for parent in {self.unified, *self.legacy.values()} - {None}:
            with suppress(OSError):
                for path in Path(str(parent)).glob(f"{PREFIX}*"):
                    if any(_words(Path(one, PROCESSES)) for one in tree(str(path))):
                        found.add(path.name)
        return frozenset(found)

    def sweep(self, older_than: float) -> None:
        """Removes the cgroups of runs that have no processes any more.

        Leaves those younger than `older_than` seconds: their first process may not have started yet.
        """
        now = time.time()
        for parent in {self.unified, *self.legacy.values()} - {None}:
            with suppress(OSError):
                for path in Path(str(parent)).glob(f"{PREFIX}*"):
                    # One of the future was made before the clock was set.
                    if abs(now - path.stat().st_ctime) >= older_than:
                        remove_empty(str(path))


def _settings(controller: str, limits: ScriptLimits, *, legacy: bool) -> Iterator[tuple[str, str, bool]]:
    """Yields the file, the value, and whether the file must exist."""
    if controller == "memory":
        value = str(limits.memory)
        yield ("memory.limit_in_bytes" if legacy else "memory.max"), value, True
        # In version 1 this limits memory and swap together.  Both files need a kernel that accounts swap.
        yield ("memory.memsw.limit_in_bytes", value, False) if legacy else ("memory.swap.max", "0", False)
        if not legacy:
            # Kills the whole script, since one that has lost a process would continue with half of its work.
            yield "memory.oom.group", "1", False
    elif controller == "cpu":
        quota = max(1000, round((limits.cpu or 0) * _PERIOD))
        if legacy:
            yield "cpu.cfs_period_us", str(_PERIOD), True
            yield "cpu.cfs_quota_us", str(quota), True
        else:
            yield "cpu.max", f"{quota} {_PERIOD}", True
    else:
        yield "pids.max", str(limits.tasks), True


def _notes(controller: str, limits: ScriptLimits, *, legacy: bool) -> Iterator[tuple[str, str, str]]:
    """Yields the file, the counter, and the line for the log if the counter is not zero."""
    if controller == "memory":
        text = f"The script has met its memory limit of {_amount(limits.memory or 0)}: processes of it were killed."
        yield ("memory.oom_control" if legacy else "memory.events"), "oom_kill", text
    elif controller == "pids":
        text = f"The script has met its limit of {limits.tasks} tasks: {{times}} times no process could be made."
        yield "pids.events", "max", text


def _amount(size: int) -> str:
    return f"{size // _MEBIBYTE} MiB" if size % _MEBIBYTE == 0 else f"{size} bytes"


def find_cgroup_parents(limits: ScriptLimits, proc: Path = Path("/proc/self")) -> CgroupParents | None:
    """Returns where this process may make cgroups; `None` where it may not and no limit needs one.

    May move this process and those beside it into a leaf.  Raises `SandboxUnavailableError` when a limit cannot be
    kept.
    """
    mounts = parse_mounts(_text(proc / "mountinfo"))
    cgroups = parse_cgroups(_text(proc / "cgroup"))
    unified = _unified_parent(mounts, cgroups)
    offered = frozenset() if unified is None else frozenset(_words(unified / "cgroup.controllers"))
    legacy: dict[str, Path] = {}
    for controller in limits.controllers:
        if controller not in offered:
            legacy[controller] = _legacy_parent(mounts, cgroups, controller)
    if unified is not None and (handed := [name for name in limits.controllers if name in offered]):
        _enable_controllers(unified, handed)
    return CgroupParents(unified, legacy) if unified is not None or legacy else None


def _unified_parent(mounts: list[Mount], cgroups: dict[str, str]) -> Path | None:
    for mount in mounts:
        own = mount.directory(cgroups.get("", "/..")) if mount.unified else None
        if own is None:
            continue
        # This process was started inside the leaf, by systemd or beside an agent that has moved there.
        above = own.parent
        if own.name == LEAF and _is_delegated(above) and _can_create_in(above):
            return above
        if _can_create_in(own):
            return own
    return None


def _legacy_parent(mounts: list[Mount], cgroups: dict[str, str], controller: str) -> Path:
    for mount in mounts:
        own = mount.directory(cgroups.get(controller, "/..")) if controller in mount.controllers else None
        if own is not None and _can_create_in(own):
            return own
    raise SandboxUnavailableError(
        f"A limit for scripts needs the cgroup controller '{controller}', and this process cannot use it",
        hint="Run the agent as a systemd service with Delegate=yes, or set that limit to none.",
    )


def _can_create_in(directory: Path) -> bool:
    """Tries it out, since rights, mounts and namespaces all decide about it."""
    probe = directory / f"{PREFIX}probe-{secrets.token_hex(4)}"
    try:
        probe.mkdir()
    except OSError:
        return False
    remove_empty(str(probe))
    return os.access(directory / PROCESSES, os.W_OK)


def _enable_controllers(directory: Path, controllers: list[str]) -> None:
    """Enables the controllers for the cgroups below `directory`."""
    file = directory / "cgroup.subtree_control"
    if set(controllers) <= set(_words(file)):
        return
    wanted = " ".join(f"+{name}" for name in controllers)
    try:
        try:
            file.write_text(wanted)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            _move_into_leaf(directory)
            file.write_text(wanted)
    except OSError as error:
        raise SandboxUnavailableError(
            f"The limits for scripts cannot be set up in the cgroup '{directory}': {error.strerror}",
            hint="Run the agent as a systemd service with Delegate=yes, or set the limits to none.",
        ) from error


def _move_into_leaf(directory: Path) -> None:
    if not _is_delegated(directory):
        raise PermissionError(errno.EPERM, "it belongs to others too, and was not delegated to this agent")
    leaf = directory / LEAF
    leaf.mkdir(exist_ok=True)
    # A process that forks meanwhile leaves its child behind, so look again.
    for _ in range(10):
        beside = _words(directory / PROCESSES)
        for pid in beside:
            with suppress(ProcessLookupError):
                (leaf / PROCESSES).write_text(pid)
        if not beside:
            return


def _is_delegated(directory: Path) -> bool:
    """Returns whether the cgroup was delegated to the agent: by systemd, to its user, or as the root of a container."""
    for mark in _DELEGATION_MARKS:
        with suppress(OSError):
            return os.getxattr(directory, mark) == b"1"
    with suppress(OSError):
        if os.geteuid() and directory.stat().st_uid == os.geteuid():
            return True
    # The topmost visible cgroup, as in a container.
    return not (directory.parent / PROCESSES).exists() and (directory / "cgroup.type").exists()


def _words(file: Path) -> list[str]:
    return _text(file).split()


def _text(file: Path) -> str:
    """Returns what the file holds; nothing where it cannot be read, as all that this process may not use."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
