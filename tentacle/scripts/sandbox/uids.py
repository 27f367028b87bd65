"""Users for scripts, one per run, from a range that is reserved for them.

A workspace belongs to the user of its run: the owner on the disk is the lease, and survives restarts of the agent.  A
user is free when it owns no workspace and no process runs under it.  Files that a script has left elsewhere, say in
/tmp, are not searched; so every user of the range is used once before one is used again.

While an agent lives it locks its range in a file of the machine, so that no two agents ever lease the same user.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import pwd
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tentacle.path_walk import give
from tentacle.scripts.errors import SandboxUnavailableError, ScriptError
from tentacle.scripts.shim.run_processes import real_and_saved_uids

CLAIMS = Path("/run/tentacle-script-users")
"""Has a byte for every user; an agent locks the bytes of its range."""
_AT_ONCE = 1000
"""Free users collected in one search, however wide the range is."""


@dataclass(frozen=True)
class UidRange:
    """The users from `first` to `last`."""

    first: int = 20000
    last: int = 20999

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
        self._next_look = uids.first
        self._turn = threading.Lock()
        self._fresh: deque[int] = deque()
        """The users that were free in the last search and were not leased since."""

    def check(self) -> None:
        """Raises `SandboxUnavailableError` when this process cannot run scripts under these users."""
        if os.geteuid() != 0:
            raise SandboxUnavailableError(
                "Scripts can run under users of their own only if the agent runs as root",
                hint="Run the agent as root, or set --script-isolation=private.",
            )
        taken = next((user for user in pwd.getpwall() if user.pw_uid in self._range), None)
        if taken is not None:
            raise SandboxUnavailableError(
                f"The range of users for scripts, {self._range}, holds {taken.pw_uid}, which is '{taken.pw_name}'",
                hint="Set --script-uid-range to numbers that no user of this machine has.",
            )
        for directory in self._work.parents:
            if not directory.stat().st_mode & 0o001:
                raise SandboxUnavailableError(
                    f"Scripts under users of their own cannot reach their workspaces through '{directory}'",
                    hint=f"Run: chmod o+x '{directory}'",
                )
        self._claim()

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
            if uid not in self._range:
                uid = self._next()
            _change_owner(workspace, uid)
            return uid

    def _next(self) -> int:
        if not self._fresh:
            pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
            taken = {uid for pid in pids for uid in real_and_saved_uids(pid)}
            with os.scandir(self._work) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        taken.add(entry.stat(follow_symlinks=False).st_uid)
            # Continues where the last search ended, or the first users would be used again and again.
            turn = itertools.chain(
                range(self._next_look, self._range.last + 1), range(self._range.first, self._next_look)
            )
            self._fresh.extend(itertools.islice((uid for uid in turn if uid not in taken), _AT_ONCE))
        if not self._fresh:
            raise ScriptError(
                f"All users for scripts, {self._range}, are taken by workspaces or processes",
                hint="Set a wider --script-uid-range, or have finished scripts completed sooner.",
            )
        uid = self._fresh.popleft()
        self._next_look = self._range.first if uid == self._range.last else uid + 1
        return uid


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
