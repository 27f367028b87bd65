"""How scripts of one agent are kept apart: from the settings to what the document of each run says.

    none       the agent's own user, files and processes, as the original does
    private    its own /tmp and /var/tmp, the other workspaces hidden, no process to be seen but its own
    user       a user of its own, so that it can read and signal nothing of another script or of the agent

With each of them, where the host lets us, a cgroup of its own, with the limits that are set.  What the settings ask for
and the host cannot give is an error at the start; nothing falls back to less.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tentacle.errors import one_line
from tentacle.scripts.sandbox.cgroups import PREFIX, Limits, Place, find_place
from tentacle.scripts.sandbox.uids import UidRange, Uids
from tentacle.scripts.shim.run_cgroup import RunGroup, remove_empty
from tentacle.scripts.shim.run_processes import MARK, Kin
from tentacle.scripts.workspace.run_files import RunFiles

log = logging.getLogger(__name__)

_BETWEEN_SWEEPS = 600.0
_SURELY_USED = 60.0
"""Seconds after which a cgroup in which nobody lives is not just about to be used."""
_LONGEST_KILL = 10.0
_LIMITS = "limits"
"""What a run's state directory keeps of its limits."""
_TEMPORARY = {"tmp": "/tmp", "var-tmp": "/var/tmp"}  # noqa: S108 - what scripts call so


class Mode(enum.Enum):
    NONE = "none"
    PRIVATE = "private"
    USER = "user"


@dataclass(frozen=True)
class IsolationOptions:
    """`uids` counts in mode `user` only.  `use_cgroup` of false leaves cgroups alone as long as no limit needs one."""

    mode: Mode = Mode.NONE
    limits: Limits = field(default_factory=Limits)
    uids: UidRange = field(default_factory=UidRange)
    use_cgroup: bool = True

    @property
    def asks(self) -> bool:
        """True when there is anything that a host might be unable to give."""
        return self.mode is not Mode.NONE or bool(self.limits.controllers)

    def __str__(self) -> str:
        users = f" (users {self.uids})" if self.mode is Mode.USER else ""
        return f"the isolation '{self.mode.value}'{users} and {self.limits}"


class Sandbox:
    """Describes for each run of the agent the surroundings that it gets."""

    def __init__(self, work: Path, options: IsolationOptions) -> None:
        self.options = options
        self._work = work
        self._uids = Uids(work, options.uids)
        self._place: Place | None = None
        self._swept = 0.0

    def prepare(self) -> None:
        """Finds out what the host offers; `work` must exist.  Raises `IsolationUnavailableError`.

        May move this process into another cgroup: to be called before it has children.
        """
        if self.options.mode is Mode.USER:
            self._uids.check()
            # To be gone through, not to be listed.
            self._work.chmod(0o711)
        if self.options.use_cgroup or self.options.limits.controllers:
            self._place = find_place(self.options.limits)
        self._sweep()

    async def document(self, files: RunFiles, environment: Mapping[str, str]) -> dict[str, Any]:
        """What the run's own process must know (see `spawn.py`).  Raises `ScriptError` or `OSError`."""
        if time.monotonic() - self._swept > _BETWEEN_SWEEPS:
            await asyncio.to_thread(self._sweep)
        workspace, mode = files.workspace, self.options.mode
        mark = _mark(files)
        variables = {**environment, MARK: mark}
        user: dict[str, int] | None = None
        if mode is Mode.USER:
            uid = await asyncio.to_thread(self._uids.lease, workspace)
            user = {"uid": uid, "gid": uid}
            # The agent's own would be closed to the script, and most tools keep something there.
            variables |= {"HOME": str(workspace), "USER": str(uid), "LOGNAME": str(uid)}
            if not _is_everybodys(variables.get("TMPDIR", "")):
                variables.pop("TMPDIR", None)
        if self._place is not None and self.options.limits.controllers:
            files.remember(_LIMITS, self.options.limits.encode())
        return {
            "mark": mark,
            "group": self._group(files),
            "private": self._view(workspace, environment) if mode is Mode.PRIVATE else None,
            "user": user,
            "environment": variables,
        }

    def birthplace(self) -> str:
        """A cgroup in which a watcher may be born, to share it with its scripts; empty where it has to stay outside.

        Under limits it must, or a script could have it killed for its own use of memory.
        """
        if self._place is None or self._place.unified is None or self.options.asks:
            return ""
        return f"{self._place.unified}/{PREFIX}{secrets.token_hex(16)}"

    def renew(self, files: RunFiles) -> None:
        """Gives a run that an earlier agent has started its limits once more.

        Before version 254 systemd cannot start an agent where controllers are handed down, so the unit takes them away
        between two agents, and with them the limits of all scripts that run on.
        """
        kept = files.recall(_LIMITS)
        if kept is None or self._place is None:
            return
        try:
            RunGroup(self._place.document(_mark(files), Limits.decode(kept))).make()
        except (OSError, ValueError) as error:
            log.warning("Script %s runs on without its limits: %s", files.settings.ticket, one_line(error))

    def end_left(self, files: RunFiles) -> None:
        """Ends what a run has left whose watcher has died, or the lock that it held would protect nobody."""
        document = self._group(files)
        group = None if document is None else RunGroup(document)
        if shared := files.cgroup:
            group = RunGroup.of(shared)
        Kin(None, _mark(files), group, self._user_of(files)).kill(lambda: None, _LONGEST_KILL)
        if group is not None:
            group.remove()

    def forget(self, files: RunFiles) -> None:
        """Removes what may be left of a run that is over; somebody who still lives keeps it."""
        for directory in (self._group(files) or {}).get("directories", ()):
            remove_empty(directory)

    def _user_of(self, files: RunFiles) -> int | None:
        """The user that the run has for itself, if it has one."""
        try:
            owner = files.workspace.stat().st_uid
        except OSError:
            return None
        return owner if self.options.mode is Mode.USER and owner in self.options.uids else None

    def _group(self, files: RunFiles) -> dict[str, Any] | None:
        return None if self._place is None else self._place.document(_mark(files), self.options.limits)

    def _sweep(self) -> None:
        self._swept = time.monotonic()
        if self._place is not None:
            self._place.sweep(_SURELY_USED)

    def _view(self, workspace: Path, environment: Mapping[str, str]) -> dict[str, Any]:
        temporary = dict(_TEMPORARY)
        wanted = []
        if chosen := environment.get("TMPDIR"):
            folder = Path(os.path.normpath(chosen))
            if any(folder.is_relative_to(target) for target in temporary.values()):
                wanted.append(str(folder))
            elif folder.is_dir() and not self._work.is_relative_to(folder):
                temporary["tmpdir"] = str(folder)
        return {
            "work": str(self._work),
            "workspace": str(workspace),
            "temporary": [[name, target] for name, target in temporary.items() if Path(target).is_dir()],
            "wanted": wanted,
        }


def _is_everybodys(directory: str) -> bool:
    try:
        return Path(directory).stat().st_mode & 0o007 == 0o007
    except (OSError, ValueError):
        return False


def _mark(files: RunFiles) -> str:
    """Names the run and no other one, whoever asks and after whatever restart; tells nothing about it."""
    settings = files.settings
    return _digest(f"{files.workspace}\0{settings.created}\0{settings.boot}\0{settings.ticket}")


@functools.lru_cache(maxsize=256)
def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()[:32]
