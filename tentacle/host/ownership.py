"""Gives an instance's files to the user that its service runs as, and no other files.

Root does this inside directories that the user may already own.  So it follows neither symbolic links nor second hard
links, and stays on one file system.  A configuration names the directories, and that file may be the user's own, too.
So there is a `giver`, the owner of that configuration: unless that is root, only what the giver owns already is given,
and no directory is created.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tentacle.disk import DiskError, is_directory, make_directories, user_name
from tentacle.host.account import Account
from tentacle.host.errors import HostError
from tentacle.path_walk import Place, end_of, give, parent_of, wary_root

_ROOT = 0
_OPENED = stat.S_ISVTX | stat.S_IRWXG


def require_own_directory(path: Path, account: Account, *, may_be_sticky: bool = False) -> None:
    """Raises `HostError` for a directory that must not be given away: the system's, or another user's home."""
    path = path.resolve()
    shared = len(path.parts) <= 2
    with suppress(OSError):
        shared = shared or (bool(path.stat().st_mode & stat.S_ISVTX) and not may_be_sticky)
    others = any(Path(user.pw_dir) == path and user.pw_uid != account.uid for user in pwd.getpwall())
    if shared or others:
        raise _shared(path, account)


def _shared(path: Path, account: Account) -> HostError:
    return HostError(
        f"The directory '{path}' holds an instance, but is not the instance's alone: "
        f"it cannot be given to the user '{account.name}'.",
        hint="Give the instance a directory of its own (create-instance --home=...), or run the service as the "
        "owner of that directory (--username=...).",
    )


def give_directory(directory: Path, names: Iterable[str], account: Account, *, giver: int = _ROOT) -> bool:
    """Gives `directory` itself and, inside it, what is called one of `names` with everything below it.

    Returns whether that changed anything; names that are not there are skipped.  Raises `HostError`.
    """
    return _give_inside(directory, names, account, giver, opened=False)


def open_directory(directory: Path, names: Iterable[str], account: Account, *, giver: int = _ROOT) -> bool:
    """As `give_directory`, but `directory` itself stays root's; the user may create entries of its own in it.

    This is for a directory that also holds what must stay root's: its owner could move that away.  Raises `HostError`.
    """
    _require_group_of_its_own(account)
    return _give_inside(directory, names, account, giver, opened=True)


def _give_inside(directory: Path, names: Iterable[str], account: Account, giver: int, *, opened: bool) -> bool:
    with _opened(directory, account) as (place, top):
        found = os.fstat(top)
        changed = found.st_uid != account.uid
        if opened:
            changed = (found.st_uid, found.st_gid, found.st_mode & _OPENED) != (_ROOT, account.gid, _OPENED)
        elif found.st_mode & stat.S_ISVTX:
            raise _shared(place.path, account)
        # Where a link of another user leads was not said by the giver.
        giver = account.uid if place.by_others else giver
        if changed and not may_give(found.st_uid, account, giver):
            owner = user_name(giver)
            raise HostError(
                f"The directory '{directory}' is named by a configuration that belongs to {owner}, but is not "
                f"{owner}'s: it is not given to the user '{account.name}'.",
                hint=f"If it is meant for the agent: chown {account.name} '{directory}'",
            )
        if changed:
            os.fchown(top, _ROOT if opened else account.uid, account.gid)
        if changed and opened:
            os.fchmod(top, stat.S_IMODE(os.fstat(top).st_mode) & ~stat.S_IWOTH | _OPENED)
        try:
            for name in names:
                with suppress(FileNotFoundError):
                    changed = _give_tree(name, top, account) or changed
        except RecursionError:
            raise HostError(
                f"Directories in '{directory}' are nested too deeply to be given to the user '{account.name}'.",
                hint="A script has made them: remove them first.",
            ) from None
    return changed


@contextmanager
def _opened(directory: Path, account: Account) -> Iterator[tuple[Place, int]]:
    """Yields the place of a directory, walked to once, and the open directory.  Raises `HostError`."""
    try:
        with end_of(directory, wary_root()) as place:
            top = place.open(os.O_RDONLY | os.O_DIRECTORY)
            try:
                yield place, top
            finally:
                os.close(top)
    except OSError as error:
        raise _cannot_give(directory, account, error) from None


def give_file(path: Path, account: Account) -> bool:
    """Gives one file, if it is there.  Returns whether that changed anything.  Raises `HostError`."""
    try:
        with parent_of(path, wary_root()) as place:
            place.require_writable()
            return _give_entry(place.name, place.directory, account)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _cannot_give(path, account, error) from None


def make_directory(path: Path, account: Account, *, giver: int = _ROOT) -> bool:
    """Creates a directory for the user where there is none.  Returns whether it did.  Raises `HostError`.

    Where the giver is not root, nothing is created: the giver might not be allowed to create it.
    """
    if is_directory(path) or giver != _ROOT:
        return False
    try:
        make_directories(path.parent)
        with parent_of(path, wary_root()) as place:
            place.require_writable()
            os.mkdir(place.name, 0o755, dir_fd=place.directory)
            _give_entry(place.name, place.directory, account)
    except DiskError as error:
        raise HostError(error.message) from None
    except OSError as error:
        raise HostError(f"The directory '{path}' cannot be made: {error.strerror}") from None
    return True


def may_give(owner: int, account: Account, giver: int) -> bool:
    """Whether something that belongs to `owner` may be given to the user, as the giver's configuration says."""
    return giver == _ROOT or owner in (giver, account.uid)


def _give_tree(name: str, parent: int, account: Account) -> bool:
    """Gives an entry of the open directory `parent`, and all that is below it on the same file system."""
    changed = _give_entry(name, parent, account)
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        return changed
    device = os.fstat(parent).st_dev
    for _, folders, files, here in os.fwalk(name, dir_fd=parent, follow_symlinks=False):
        folders[:] = [f for f in folders if os.stat(f, dir_fd=here, follow_symlinks=False).st_dev == device]
        for entry in (*folders, *files):
            with suppress(FileNotFoundError):
                changed = _give_entry(entry, here, account) or changed
    return changed


def _give_entry(name: str, parent: int, account: Account) -> bool:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode) or found.st_uid == account.uid:
        return False
    return give(name, parent, account.uid, account.gid)


def _require_group_of_its_own(account: Account) -> None:
    """Raises `HostError` when others are in the user's group: a directory is opened to that group."""
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


def _cannot_give(path: Path, account: Account, error: OSError) -> HostError:
    return HostError(f"'{path}' cannot be given to the user '{account.name}': {error.strerror}")
