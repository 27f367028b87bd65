"""Users for scripts, one per run, from a range that is reserved for them.

The first user of the range owns what all scripts share (`shared_places.py`); the others are lent.  A workspace belongs
to the user of its run: the owner on the disk is the lease, and survives restarts of the agent.  A user is free when it
owns no workspace, no home, no process, nothing in the directories that everybody may write, and no System V object.
Every user of the range is used once before one is used again.

While an agent lives it locks its range in a file of the machine, so that no two agents ever lease the same user.
"""

from __future__ import annotations

import fcntl
import functools
import grp
import itertools
import os
import pwd
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tentacle.home_layout import RUNS
from tentacle.path_walk import give
from tentacle.records import dataclass
from tentacle.scripts.errors import SandboxUnavailableError, ScriptError
from tentacle.scripts.shim.run_processes import real_and_saved_uids
from tentacle.scripts.workspace.run_files import TEMPORARY_SUFFIX

CLAIMS = Path("/run/tentacle-script-users")
"""Has a byte for every user; an agent locks the bytes of its range."""
_FEWEST = 2
_OPEN = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/dev/mqueue")  # noqa: S108 - what is left there
_SYSTEM_V = {"/proc/sysvipc/shm": (7, 9), "/proc/sysvipc/msg": (7, 9), "/proc/sysvipc/sem": (4, 6)}
"""The tables of these objects, and the columns of their owner and their maker."""
_AT_ONCE = 1000
"""Free users collected in one search, however wide the range is."""


@dataclass(frozen=True)
class UidRange:
    """The users from `first` to `last`, and the groups of these numbers."""

    first: int = 20000
    last: int = 20999

    @property
    def owner(self) -> int:
        """The user who owns what scripts share; it is not lent."""
        return self.first

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, uid: int) -> bool:
        return self.first <= uid <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class Uids:
    """Leases users to workspaces below `work`; may be used from several threads."""

    def __init__(self, work: Path, uids: UidRange, claims: Path = CLAIMS) -> None:
        self._work = work
        self._range = uids
        self._claims = claims
        self._next_look = uids.first + 1
        self._turn = threading.Lock()
        self._fresh: deque[int] = deque()
        """The users that were free in the last search and were not leased since."""

    def check(self) -> None:
        """Raises `SandboxUnavailableError` when this process cannot run scripts under these users; claims them."""
        self.require_possible()
        self._claim()

    def require_possible(self) -> None:
        """Does what `check` does, but claims nothing."""
        if os.geteuid() != 0:
            raise SandboxUnavailableError(
                "Scripts can run under users of their own only if the agent runs as root",
                hint="Run the agent as root, or set --script-isolation=private.",
            )
        if len(self._range) < _FEWEST:
            raise SandboxUnavailableError(
                f"The range of users for scripts, {self._range}, is too small",
                hint="Set --script-uid-range to two numbers or more: one for what scripts share, the others for them.",
            )
        require_unused(self._range)
        # The home of the instance, which is the first one, is opened to scripts as a shared place.
        for directory in self._work.parent.parents:
            if not directory.stat().st_mode & 0o001:
                raise SandboxUnavailableError(
                    f"Scripts under users of their own cannot reach their workspaces through '{directory}'",
                    hint=f"Run: chmod o+x '{directory}'",
                )

    def _claim(self) -> None:
        """Locks the range for as long as this process lives."""
        try:
            file = _open_claims(self._claims)
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, len(self._range), self._range.first)
        except BlockingIOError as error:
            raise SandboxUnavailableError(
                f"Another agent on this machine runs scripts under users of the range {self._range}",
                hint="Give each instance a --script-uid-range of its own.",
            ) from error
        except OSError as error:
            raise SandboxUnavailableError(
                f"The range of users for scripts cannot be claimed in '{self._claims}': {error.strerror}",
                hint="The agent needs to write there, so that no other agent lends the same users.",
            ) from error

    def lease(self, workspace: Path) -> int:
        """Returns the user of the workspace, and makes it the owner of the workspace and everything in it.

        Raises `ScriptError` when all users are taken, `OSError` when the owner cannot be changed.
        """
        with self._turn:
            uid = workspace.stat().st_uid
            if uid not in self._range or uid == self._range.owner:
                uid = self._next()
            _change_owner(workspace, uid)
            return uid

    def _next(self) -> int:
        if not self._fresh:
            taken = set(owners_of_anything(self._work))
            # Continues where the last search ended, or the first users would be used again and again.
            turn = itertools.chain(
                range(self._next_look, self._range.last + 1), range(self._range.first + 1, self._next_look)
            )
            self._fresh.extend(itertools.islice((uid for uid in turn if uid not in taken), _AT_ONCE))
        if not self._fresh:
            raise ScriptError(
                f"All users for scripts, {self._range}, are taken by workspaces or processes",
                hint="Set a wider --script-uid-range, or have finished scripts completed sooner.",
            )
        uid = self._fresh.popleft()
        self._next_look = self._range.first + 1 if uid == self._range.last else uid + 1
        return uid


def require_unused(uids: UidRange) -> None:
    """Raises `SandboxUnavailableError` when a user or a group of this machine has a number of the range."""
    users = ((user.pw_uid, user.pw_name) for user in pwd.getpwall())
    groups = ((group.gr_gid, group.gr_name) for group in grp.getgrall())
    taken = next(((number, name) for number, name in itertools.chain(users, groups) if number in uids), None)
    if taken is not None:
        raise SandboxUnavailableError(
            f"The range of users for scripts, {uids}, holds {taken[0]}, which is '{taken[1]}'",
            hint="Set --script-uid-range to numbers that no user or group of this machine has.",
        )


def owners_of_anything(work: Path) -> Iterator[int]:
    """Yields the users that have something that a later process of theirs could come upon, again and again.

    A script of this version can write nothing elsewhere; scripts of earlier ones could, in directories for everybody.
    """
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        yield from real_and_saved_uids(pid)
    for directory, pattern in ((work, "*"), (work / RUNS, f"*{TEMPORARY_SUFFIX}/*"), *((Path(p), "*") for p in _OPEN)):
        for path in directory.glob(pattern):
            with suppress(OSError):
                yield path.lstat().st_uid
    for file, columns in _SYSTEM_V.items():
        with suppress(OSError, ValueError, IndexError):
            for line in Path(file).read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                yield from (int(words[column]) for column in columns)


@functools.cache
def _open_claims(claims: Path) -> int:
    """Returns the open file.  It stays open, because closing it would release all locks of this process on it."""
    return os.open(claims, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _change_owner(workspace: Path, uid: int) -> None:
    for _, folders, files, descriptor in os.fwalk(workspace):
        for name in (*folders, *files):
            # What a script of this workspace has left may be changing it.
            with suppress(FileNotFoundError):
                give(name, descriptor, uid, uid)
    # Last, because this makes the lease.
    os.chown(workspace, uid, uid, follow_symlinks=False)
