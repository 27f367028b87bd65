"""Gives an instance's files to the user that its service runs as, and nothing else to anybody.

Root does this inside directories that the user may already own, so no name is followed: neither a symbolic link nor a
second hard link leads to a file elsewhere, and other file systems are left alone.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tentacle.host.account import Account
from tentacle.host.errors import HostError

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def need_own_directory(path: Path, account: Account) -> None:
    """Raises `HostError` for a directory that cannot be given away: the system's, or another person's."""
    path = path.resolve()
    shared = len(path.parts) <= 2
    with suppress(OSError):
        shared = shared or bool(path.stat().st_mode & stat.S_ISVTX)
    others = any(Path(user.pw_dir) == path and user.pw_uid != account.uid for user in pwd.getpwall())
    if shared or others:
        raise HostError(
            f"The directory '{path}' holds an instance, but is not the instance's alone: "
            f"it cannot be given to the user '{account.name}'.",
            hint="Give the instance a directory of its own (create-instance --home=...), or run the service as the "
            "owner of that directory (--username=...).",
        )


def give_directory(directory: Path, names: Iterable[str], account: Account) -> bool:
    """Gives `directory` itself and, inside it, what is called one of `names` with everything below it.

    True when that changed anything; names that are not there are passed over.  Raises `HostError`.
    """
    try:
        top = os.open(directory.resolve(), _OPEN)
    except OSError as error:
        raise _cannot_give(directory, account, error) from None
    try:
        given = _give_open(top, account)
        for name in names:
            with suppress(FileNotFoundError):
                given = _give_tree(name, top, account) or given
    except OSError as error:
        raise _cannot_give(directory, account, error) from None
    finally:
        os.close(top)
    return given


def give_file(path: Path, account: Account) -> bool:
    """Gives one file, if it is there, and nothing around it.  True when that changed anything.  Raises `HostError`."""
    try:
        parent = os.open(path.parent.resolve(), _OPEN)
        try:
            return _give_entry(path.name, parent, account)
        finally:
            os.close(parent)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _cannot_give(path, account, error) from None


def make_directory(path: Path, account: Account) -> bool:
    """Makes a directory for the user where there is none yet; true when it was made.  Raises `HostError`."""
    try:
        if path.is_dir():
            return False
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.mkdir(mode=0o755)
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    except OSError as error:
        raise HostError(f"The directory '{path}' cannot be made: {error.strerror}") from None
    return True


def _give_tree(name: str, parent: int, account: Account) -> bool:
    """Gives an entry of the open directory `parent`, and all that is below it on the same file system."""
    given = _give_entry(name, parent, account)
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        return given
    device = os.fstat(parent).st_dev
    for _, folders, files, here in os.fwalk(name, dir_fd=parent, follow_symlinks=False):
        folders[:] = [f for f in folders if os.stat(f, dir_fd=here, follow_symlinks=False).st_dev == device]
        for entry in (*folders, *files):
            with suppress(FileNotFoundError):
                given = _give_entry(entry, here, account) or given
    return given


def _give_entry(name: str, parent: int, account: Account) -> bool:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    linked = stat.S_ISLNK(found.st_mode) or (not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1)
    if linked or found.st_uid == account.uid:
        return False
    os.chown(name, account.uid, account.gid, dir_fd=parent, follow_symlinks=False)
    return True


def _give_open(descriptor: int, account: Account) -> bool:
    if os.fstat(descriptor).st_uid == account.uid:
        return False
    os.fchown(descriptor, account.uid, account.gid)
    return True


def _cannot_give(path: Path, account: Account, error: OSError) -> HostError:
    return HostError(f"'{path}' cannot be given to the user '{account.name}': {error.strerror}")
