"""The sandbox of scripts: from the settings to the order of each run.

    none       the agent's own user, files and processes, as the original does
    private    its own /tmp and /var/tmp, the other workspaces hidden, no process visible but its own
    user       a user of its own, so that it can read and signal nothing of another script or of the agent

With each of them, where the host permits it, every script has a cgroup of its own, with the limits of the settings.
What the settings ask for and the host cannot provide is an error when the agent starts; nothing falls back to less.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from tentacle.errors import one_line
from tentacle.records import dataclass
from tentacle.scripts.sandbox.cgroups import PREFIX, CgroupParents, ScriptLimits, find_cgroup_parents
from tentacle.scripts.sandbox.shared_places import DOTNET_8, SharedPlaces, dotnet_directories
from tentacle.scripts.sandbox.uids import UidRange, Uids
from tentacle.scripts.shim.run_cgroup import RunCgroup, remove_empty
from tentacle.scripts.shim.run_order import CgroupOrder, RunOrder, ScriptView, ViewPlace
from tentacle.scripts.shim.run_processes import MARK, MARK_LENGTH, RunProcesses, living_marks
from tentacle.scripts.workspace.run_files import RunFiles
from tentacle.scripts.workspace.run_header import RunHeader

log = logging.getLogger(__name__)

NEEDED_FOR_USERS = (
    "The agent needs root with the rights to change users and to mount (CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_KILL, "
    "CAP_SYS_ADMIN), Linux 5.12 or newer, and a file system with idmapped mounts, such as ext4, xfs or btrfs, for the "
    "home of the instance, the applications and /tmp/.dotnet; or set --script-isolation=private."
)
_BETWEEN_SWEEPS = 600.0
_SURELY_USED = 60.0
"""Seconds after which a cgroup without processes is not just about to be used."""
_LONGEST_KILL = 10.0
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_TICKET = 64
"""Characters of a ticket in the name of a cgroup."""
_TEMPORARY = {"tmp": "/tmp", "var-tmp": "/var/tmp"}  # noqa: S108 - the names that scripts use
_LOCKS = {"run-lock": "/run/lock"}
_HOME = "home"


class Mode(enum.Enum):
    NONE = "none"
    PRIVATE = "private"
    USER = "user"


@dataclass(frozen=True)
class SandboxOptions:
    """`uids` and `applications`, the directory that scripts deploy to, matter in mode `user` only.

    Without `use_cgroup`, cgroups are made only if a limit needs one.
    """

    mode: Mode = Mode.NONE
    limits: ScriptLimits = field(default_factory=ScriptLimits)
    uids: UidRange = field(default_factory=UidRange)
    applications: Path | None = None
    use_cgroup: bool = True

    @property
    def asks(self) -> bool:
        """True when the options ask for anything that a host might be unable to provide."""
        return self.mode is not Mode.NONE or bool(self.limits.controllers)

    def __str__(self) -> str:
        users = f" (users {self.uids})" if self.mode is Mode.USER else ""
        return f"the isolation '{self.mode.value}'{users} and {self.limits}"


class Sandbox:
    """Completes the orders of the agent's runs by their sandbox."""

    def __init__(self, work: Path, options: SandboxOptions) -> None:
        self.options = options
        self._work = work
        self._uids = Uids(work, options.uids)
        self._places = SharedPlaces(work.parent, options.applications, options.uids.owner)
        self._cgroup_parents: CgroupParents | None = None
        self._swept = 0.0

    def prepare(self, beside: int | None = None) -> None:
        """Finds out what the host offers; `work` must exist.  Raises `SandboxUnavailableError`.

        `beside` as for `prepare_cgroups`.
        """
        if self.options.mode is not Mode.NONE:
            dotnet_directories()
        if self.options.mode is Mode.USER:
            self._uids.check()
            self._places.open()
            # Scripts that an earlier version has started pass through the directory; they must not list it.
            self._work.chmod(0o711)
        else:
            self._places.close()
        self.prepare_cgroups(beside)

    def prepare_cgroups(self, beside: int | None) -> None:
        """Finds out where cgroups can be made: beside that of the process `beside`, which starts the scripts.

        `None` is this process.  It may be moved into another cgroup, so this is called before there are child
        processes.  Raises `SandboxUnavailableError`.
        """
        if self.options.use_cgroup or self.options.limits.controllers:
            proc = Path("/proc") / ("self" if beside is None else str(beside))
            self._cgroup_parents = find_cgroup_parents(self.options.limits, proc)
        self._sweep()

    async def order(self, files: RunFiles, order: RunOrder) -> RunOrder:
        """Returns the order with the sandbox of its run.  Raises `ScriptError` or `OSError`."""
        if time.monotonic() - self._swept > _BETWEEN_SWEEPS:
            await asyncio.to_thread(self._sweep)
        mark = _mark(files)
        variables = {**order.environment, MARK: mark}
        uid: int | None = None
        view: ScriptView | None = None
        if self.options.mode is Mode.USER:
            uid = await asyncio.to_thread(self._uids.lease, files.workspace)
            home = self._make_home(files, uid)
            variables |= {"HOME": str(home), "USER": str(uid), "LOGNAME": str(uid)}
        if self.options.mode is not Mode.NONE:
            view = self._view(files, order.environment, uid)
            own = tuple(Path(place.target) for place in view.outside if not place.shared)
            if uid is not None and not _is_below(Path(os.path.normpath(variables.get("TMPDIR", ""))), own):
                # It is read-only there.
                variables.pop("TMPDIR", None)
        parents = self._cgroup_parents
        cgroup = None if parents is None else _named_cgroup_order(parents, files, mark, self.options.limits)
        return order._replace(mark=mark, environment=variables, cgroup=cgroup, view=view, uid=uid)

    def take_in(self, path: Path) -> None:
        """Lets scripts treat a file that the agent has put at `path` as their own, if it is in a place of theirs."""
        if self.options.mode is Mode.USER:
            self._places.take_in(path)

    @property
    def limits(self) -> tuple[float | None, ...]:
        """The limits that a run's header keeps, for an agent that takes the run over; empty without limits."""
        limits = self.options.limits
        kept = self._cgroup_parents is not None and limits.controllers
        return (limits.memory, limits.cpu, limits.tasks) if kept else ()

    def shim_cgroup(self) -> str:
        """Returns the path of a new cgroup that a shim shares with its scripts; empty where it must stay outside.

        With limits it must, or a script could have it killed by its use of memory.
        """
        if self._cgroup_parents is None or self._cgroup_parents.unified is None or self.options.asks:
            return ""
        return f"{self._cgroup_parents.unified}/{PREFIX}{secrets.token_hex(16)}"

    def restore_limits(self, files: RunFiles) -> None:
        """Sets the limits again for a run that an earlier agent has started.

        Before version 254 systemd cannot start an agent where controllers are handed down, so the unit takes them away
        between two agents, and with them the limits of all scripts that run on.
        """
        kept = files.header.limits
        if not kept or self._cgroup_parents is None:
            return
        try:
            memory, cpu, tasks = kept
            limits = ScriptLimits(_whole(memory), cpu, _whole(tasks))
            RunCgroup(_cgroup_order(self._cgroup_parents, files, limits)).make()
        except (OSError, ValueError) as error:
            log.warning("Script %s runs on without its limits: %s", files.header.ticket, one_line(error))

    def kill_remaining(self, files: RunFiles, shim: int | None = None) -> list[int]:
        """Kills what remains of a run whose shim has died, or of the stopped `shim`; returns what is left.

        Otherwise its mutex could be released too early.
        """
        order = self._cgroup(files)
        cgroup = None if order is None else RunCgroup(order)
        if shared := files.cgroup:
            cgroup = RunCgroup.of(shared)
        uid: int | None = None
        if self.options.mode is Mode.USER:
            with suppress(OSError):
                owner = files.workspace.stat().st_uid
                uid = owner if owner in self.options.uids else None
        left = RunProcesses(shim, _mark(files), cgroup, uid).kill(lambda: None, _LONGEST_KILL)
        if cgroup is not None:
            cgroup.remove()
        return left

    def are_left(self) -> Callable[[RunHeader, str], bool]:
        """Returns whether processes of a run without a shim may be left, by its header and its cgroup.

        Looks at all processes once, when it is first asked: most agents find no such run.
        """
        if self.options.mode is Mode.USER:
            # They may be found by their user alone.
            return lambda _, __: True
        living = functools.cache(self._living)
        return lambda header, cgroup: bool({_mark_of(self._work, header), cgroup[-MARK_LENGTH:]} & living())

    def _living(self) -> frozenset[str]:
        """The marks of all runs of which a process lives."""
        found = living_marks(PREFIX)
        if self._cgroup_parents is not None:
            # A confined agent does not see what runs there as root.
            found |= {name[-MARK_LENGTH:] for name in self._cgroup_parents.occupied()}
        return found

    def remove_cgroup(self, files: RunFiles) -> None:
        """Removes the cgroup of a run that is over, unless it still holds processes.

        Without limits and in mode `none`, the shim had a cgroup of its own, which is swept if it could not remove it.
        """
        order = self._cgroup(files) if self.options.asks else None
        for directory in () if order is None else order.directories:
            remove_empty(directory)

    def _cgroup(self, files: RunFiles) -> CgroupOrder | None:
        parents = self._cgroup_parents
        return None if parents is None else _cgroup_order(parents, files, self.options.limits)

    def _sweep(self) -> None:
        self._swept = time.monotonic()
        if self._cgroup_parents is not None:
            self._cgroup_parents.sweep(_SURELY_USED)

    def _make_home(self, files: RunFiles, uid: int) -> Path:
        """Raises `OSError`."""
        home = files.temporary / _HOME
        for folder in (home, *(home / part for part in reversed(DOTNET_8.parents[:-1])), home / DOTNET_8):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chown(folder, uid, uid, follow_symlinks=False)
        return home

    def _view(self, files: RunFiles, environment: Mapping[str, str], uid: int | None) -> ScriptView:
        """Raises `OSError` when the run's directories for temporary files cannot be made."""
        targets = _TEMPORARY if uid is None else {**_TEMPORARY, **_LOCKS}
        own = {name: Path(target) for name, target in targets.items() if Path(target).is_dir()}
        # Without a user of its own, a script sees the shared places as they are, unless they are covered.
        covered = tuple(own.values())
        shared = [path for path in self._places.roots if uid is not None or _is_below(path, covered)]
        dotnet = dotnet_directories()
        places = [*(dotnet if uid is None else dotnet[:1]), *shared]
        wanted = ""
        if chosen := environment.get("TMPDIR"):
            folder = Path(os.path.normpath(chosen))
            if _is_below(folder, covered) and not _is_below(folder, tuple(shared)):
                wanted = str(folder)
            elif folder.is_dir() and not self._work.is_relative_to(folder):
                own["tmpdir"] = folder
        for name, target in own.items():
            source = files.temporary / name
            inner = Path(wanted).relative_to(target) if _is_below(Path(wanted), (target,)) else Path()
            for folder in (source, *(source / part for part in reversed(inner.parents[:-1])), source / inner):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o1777)
        outside = [ViewPlace(str(files.temporary / name), str(own[name])) for name in own if name != "tmpdir"]
        outside += [ViewPlace(str(path), str(path), shared=True) for path in places]
        if "tmpdir" in own:
            outside.append(ViewPlace(str(files.temporary / "tmpdir"), str(own["tmpdir"])))
        inside = [ViewPlace(str(files.workspace), str(files.workspace))]
        if uid is None:
            return ScriptView(str(self._work), tuple(outside), tuple(inside))
        home = str(files.temporary / _HOME)
        memory = ViewPlace(str(self._places.shared_memory), f"{home}/{DOTNET_8}", shared=True)
        inside += [ViewPlace(home, home), memory]
        return ScriptView(str(self._work), tuple(outside), tuple(inside), self.options.uids.owner)


def _is_below(path: Path, directories: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(directory) for directory in directories)


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _cgroup_order(parents: CgroupParents, files: RunFiles, limits: ScriptLimits) -> CgroupOrder:
    """The cgroup of a run that may have been started by an earlier agent."""
    mark = _mark(files)
    earlier = parents.order(mark, limits)
    if any(Path(directory).is_dir() for directory in earlier.directories):
        # Made by version 0.1, which left the ticket out, for a run that goes on.
        return earlier
    return _named_cgroup_order(parents, files, mark, limits)


def _named_cgroup_order(parents: CgroupParents, files: RunFiles, mark: str, limits: ScriptLimits) -> CgroupOrder:
    """Its name begins with the ticket, for whoever reads it in the kernel's log; it is the same after a restart."""
    return parents.order(f"{_NOT_IN_A_NAME.sub('_', files.header.ticket)[:_LONGEST_TICKET]}-{mark}", limits)


def _mark(files: RunFiles) -> str:
    """Returns an identifier of the run: unique, the same after a restart, and without any information on the run."""
    return _mark_of(files.workspace.parent, files.header)


def _mark_of(work: Path, header: RunHeader) -> str:
    return _digest(f"{work / header.ticket}\0{header.created}\0{header.boot}\0{header.ticket}")


@functools.lru_cache(maxsize=256)
def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()[:MARK_LENGTH]
