"""Gives an instance's files to the user that its service runs as, and nothing else to anybody.

Root does this inside directories that the user may already own, so no name is followed: neither a symbolic link nor a
second hard link leads to a file elsewhere, and other file systems are left alone.  Which directories are meant is read
from a configuration that may be the user's own, too.  So there is a `giver`, the owner of that configuration: unless it
is root, nothing changes hands but what is the giver's already, and no directory is made for anybody.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from tentacle.host.account import Account
from tentacle.host.errors import HostError

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_ROOT = 0
_OPENED = stat.S_ISVTX | stat.S_IRWXG


def need_own_directory(path: Path, account: Account, *, may_be_sticky: bool = False) -> None:
    """Raises `HostError` for a directory that cannot be given away: the system's, or another person's."""
    path = path.resolve()
    shared = len(path.parts) <= 2
    with suppress(OSError):
        shared = shared or (bool(path.stat().st_mode & stat.S_ISVTX) and not may_be_sticky)
    others = any(Path(user.pw_dir) == path and user.pw_uid != account.uid for user in pwd.getpwall())
    if shared or others:
        raise HostError(
            f"The directory '{path}' holds an instance, but is not the instance's alone: "
            f"it cannot be given to the user '{account.name}'.",
            hint="Give the instance a directory of its own (create-instance --home=...), or run the service as the "
            "owner of that directory (--username=...).",
        )


def give_directory(directory: Path, names: Iterable[str], account: Account, *, giver: int = _ROOT) -> bool:
    """Gives `directory` itself and, inside it, what is called one of `names` with everything below it.

    True when that changed anything; names that are not there are passed over.  Raises `HostError`.
    """
    return _give_inside(directory, names, account, giver, _is_given, _give_open)


def open_directory(directory: Path, names: Iterable[str], account: Account, *, giver: int = _ROOT) -> bool:
    """As `give_directory`, but `directory` itself stays root's: in it, the user may make entries of its own.

    For a directory that also holds what must stay root's: whoever owned it could put that aside.  Raises `HostError`.
    """
    _need_group_of_its_own(account)
    return _give_inside(directory, names, account, giver, _is_open_to, _open_to)


def _give_inside(
    directory: Path,
    names: Iterable[str],
    account: Account,
    giver: int,
    is_given: Callable[[int, Account], bool],
    give_top: Callable[[int, Account], None],
) -> bool:
    try:
        top = os.open(directory.resolve(), _OPEN)
    except OSError as error:
        raise _cannot_give(directory, account, error) from None
    try:
        given = not is_given(top, account)
        if given:
            if not may_give(os.fstat(top).st_uid, account, giver):
                raise _not_the_givers(directory, account, giver)
            give_top(top, account)
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


def make_directory(path: Path, account: Account, *, giver: int = _ROOT) -> bool:
    """Makes a directory for the user where there is none yet; true when it was made.  Raises `HostError`.

    One that only a user asks for is left to that user, who may not be allowed to make it.
    """
    try:
        if path.is_dir() or giver != _ROOT:
            return False
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.mkdir(mode=0o755)
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    except OSError as error:
        raise HostError(f"The directory '{path}' cannot be made: {error.strerror}") from None
    return True


def may_give(owner: int, account: Account, giver: int) -> bool:
    """Whether what is `owner`'s may be given to the user because the giver's configuration says so."""
    return giver == _ROOT or owner in (giver, account.uid)


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


def _is_given(descriptor: int, account: Account) -> bool:
    return os.fstat(descriptor).st_uid == account.uid


def _give_open(descriptor: int, account: Account) -> None:
    os.fchown(descriptor, account.uid, account.gid)


def _is_open_to(descriptor: int, account: Account) -> bool:
    found = os.fstat(descriptor)
    return (found.st_uid, found.st_gid, found.st_mode & _OPENED) == (_ROOT, account.gid, _OPENED)


def _open_to(descriptor: int, account: Account) -> None:
    os.fchown(descriptor, _ROOT, account.gid)
    os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & ~stat.S_IWOTH | _OPENED)


def _need_group_of_its_own(account: Account) -> None:
    """A directory is opened to the group of the user, so nobody else may be in it."""
    try:
        others = set(grp.getgrgid(account.gid).gr_mem)
    except KeyError:
        others = set()
    others |= {user.pw_name for user in pwd.getpwall() if user.pw_gid == account.gid}
    others -= {account.name}
    if others:
        raise HostError(
            f"The user '{account.name}' shares its group with others ({', '.join(sorted(others)):.80}): a directory "
            "that also holds the register of instances cannot be opened to it.",
            hint="Give the instance a directory of its own (create-instance --home=...), or let the service have its "
            "own user (without --username).",
        )


def _not_the_givers(path: Path, account: Account, giver: int) -> HostError:
    who = _name(giver)
    return HostError(
        f"The directory '{path}' is named by a configuration that belongs to {who}, but is not {who}'s: "
        f"it is not given to the user '{account.name}'.",
        hint=f"If it is meant for the agent: chown {account.name} '{path}'",
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _cannot_give(path: Path, account: Account, error: OSError) -> HostError:
    return HostError(f"'{path}' cannot be given to the user '{account.name}': {error.strerror}")
