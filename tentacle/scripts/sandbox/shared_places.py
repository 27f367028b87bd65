"""What all scripts share although they are kept apart: what Calamari keeps, and what its processes lock with.

    /tmp/.dotnet                       the host's, in every mode: named mutexes of .NET 10
    HOME_OF_INSTANCE                   `Tools`, `Files`, journals and locks, which each script may change
    the directory of applications
    HOME_OF_INSTANCE/Work/.shared-memory   mounted into the home of each script: named mutexes of .NET 8

Where each script has a user of its own, one more user owns all that scripts make in these places (`namespaces.py`), and
its group may write there.  In the home of the instance the sticky bit keeps the files of the agent from it.  What each
place is for is in docs/spec/services.md, "What Calamari needs of the host".
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import logging
import os
import stat
from collections.abc import Iterable, Set
from pathlib import Path, PurePosixPath

from tentacle.home_layout import (
    DEPLOYMENT_JOURNAL,
    FILES,
    ISOLATION_LOCKS,
    OF_THE_AGENT,
    PACKAGE_JOURNAL,
    SHARED_MEMORY,
    TOOLS,
    WORK,
)
from tentacle.scripts.errors import SandboxUnavailableError
from tentacle.scripts.workspace.removal import directories_below

log = logging.getLogger(__name__)

DOTNET_8 = PurePosixPath(".dotnet/corefx/Runtime/SharedMemory")
"""Below `HOME`."""
_TEMPORARY = Path("/tmp")  # noqa: S108 - where .NET looks, whatever TMPDIR says
_FOR_ALL, _FOR_ONE = 0o1777, 0o700
_JOURNALS = (PACKAGE_JOURNAL, DEPLOYMENT_JOURNAL, ISOLATION_LOCKS)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_REPLACED = 50
"""Times: a script that still runs may put something there again and again."""
_LEAST_DEPTH = 3
"""Parts of a path: nobody is given rights on `/` or `/etc`."""


def dotnet_directories(temporary: Path = _TEMPORARY) -> list[Path]:
    """Returns the directories of .NET 10's mutexes, of all users first, then of this one's own, and makes them.

    Raises `SandboxUnavailableError` when something else is in their place, a link that somebody has planted, say, and
    this user may not remove that.
    """
    if not temporary.is_dir():
        return []
    wanted = {temporary / ".dotnet": _FOR_ALL, temporary / f".dotnet-uid{os.geteuid()}": _FOR_ONE}
    for path, mode in wanted.items():
        descriptor = _open_or_make(path)
        try:
            found = os.fstat(descriptor)
            if stat.S_IMODE(found.st_mode) & mode & 0o777 != mode & 0o777 and found.st_uid == os.geteuid():
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        _keep(path, path.lstat().st_ino)
    return list(wanted)


def _open_or_make(path: Path) -> int:
    try:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, _DIRECTORY)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):
        path.mkdir(mode=_FOR_ONE)
    try:
        return os.open(path, _DIRECTORY)
    except OSError as error:
        raise SandboxUnavailableError(
            f"'{path}', in which programs of .NET keep their locks, cannot be used: {error.strerror}",
            hint=f"It must be a directory that all users may write. Remove what is there: rm '{path}'",
        ) from error


@functools.lru_cache(maxsize=8)
def _keep(path: Path, _inode: int) -> int:
    """Returns the directory, open and locked as long as this process lives: systemd-tmpfiles does not clean it then."""
    descriptor = os.open(path, _DIRECTORY)
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return descriptor


class SharedPlaces:
    """The places of one instance; only root can open them.  `owner` is the user, and the group, of what is shared."""

    def __init__(self, home: Path, applications: Path | None, owner: int) -> None:
        self._home = home
        self._applications = None if applications is None else _real_path(applications)
        self._owner = owner
        self.shared_memory = home / WORK / SHARED_MEMORY

    @property
    def roots(self) -> tuple[Path, ...]:
        """The directories that are mounted for scripts, with all that is below them; none is below another."""
        found: list[Path] = []
        for path in sorted((self._home, self._applications or self._home), key=lambda one: len(one.parts)):
            if path.is_dir() and not any(path.is_relative_to(other) for other in found):
                found.append(path)
        return tuple(found)

    def open(self) -> None:
        """Gives what is there to the owner, unless that was done before, and makes what is missing.

        Raises `SandboxUnavailableError`.
        """
        self.require_own_directories()
        try:
            self.shared_memory.mkdir(mode=_FOR_ONE, parents=True, exist_ok=True)
            found = self.shared_memory.lstat()
            is_open = found.st_uid == self._owner and found.st_mode & stat.S_ISVTX
            former = {0, found.st_uid}
            for place in (self._home / TOOLS, self._home / FILES, *filter(None, [self._applications])):
                if not self._make(place, former):
                    continue
                self._open_directory(place, stat.S_IRWXG)
                for directory, entries in () if is_open else directories_below(place):
                    self._give(directory, entries, former)
            with os.scandir(self._home) as home:
                ours = [entry for entry in home if entry.is_file() and entry.name.startswith(_JOURNALS)]
                self._give(None, [(entry.path, entry.stat(follow_symlinks=False)) for entry in ours], former)
            self._open_directory(self._home, stat.S_IRWXG | stat.S_ISVTX)
            # This says that all has been done.
            os.chown(self.shared_memory, self._owner, self._owner, follow_symlinks=False)
            self.shared_memory.chmod(_FOR_ALL)
        except OSError as error:
            raise SandboxUnavailableError(
                f"Scripts cannot be given rights on '{error.filename or self._home}': {error.strerror}",
                hint="The home of the instance and the directory of applications must be directories of this machine.",
            ) from error

    def _make(self, place: Path, former: Set[int]) -> bool:
        """Makes the place in the stead of what a script has put there; returns false where the disk has no room.

        Then a script that needs the place makes it, as far as it lies in the home.
        """
        for _ in range(_MOST_REPLACED):
            try:
                place.mkdir(mode=0o755, parents=True)
                os.chown(place, self._owner, self._owner, follow_symlinks=False)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    log.warning("Could not make %s: %s", place, error.strerror)
                    return False
                for path in (*reversed(place.parents), place):
                    with contextlib.suppress(FileNotFoundError):
                        found = path.lstat()
                        if not stat.S_ISDIR(found.st_mode) and found.st_uid in former - {0}:
                            path.unlink()
                            break
                else:
                    return True
        return True

    def require_own_directories(self) -> None:
        """Raises `SandboxUnavailableError` for a directory that is surely not the instance's alone."""
        for path in (self._home, self._applications or self._home):
            if len(path.parts) < _LEAST_DEPTH:
                raise SandboxUnavailableError(
                    f"The directory '{path}' is not the instance's alone: scripts are not given rights on it",
                    hint="Set a directory of its own with --home or --app.",
                )

    def close(self) -> None:
        """Notes that from now on files of the agent's own user come to these places."""
        with contextlib.suppress(OSError):
            self.shared_memory.chmod(_FOR_ALL & ~stat.S_ISVTX)

    def take_in(self, path: Path) -> None:
        """Gives the owner what root has just made on the way to `path`, but nothing in the home itself.

        Follows no link.  What cannot be given stays root's.
        """
        root = next((root for root in self.roots if path.is_relative_to(root)), None)
        parts = () if root is None else path.relative_to(root).parts
        if root == self._home and (len(parts) < 2 or parts[0] in OF_THE_AGENT):
            return
        with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
            directory = os.open(root or path, _DIRECTORY)
            opened.callback(os.close, directory)
            for part in parts:
                directory = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
                opened.callback(os.close, directory)
                if _is_to_give(os.fstat(directory)):
                    os.fchown(directory, self._owner, self._owner)

    def _give(self, directory: int | None, entries: Iterable[tuple[str, os.stat_result]], former: Set[int]) -> None:
        """Gives the owner the entries of the open directory that are of `former` owners; follows no link."""
        for name, status in entries:
            if _is_to_give(status, former):
                with contextlib.suppress(FileNotFoundError):
                    os.chown(name, self._owner, self._owner, dir_fd=directory, follow_symlinks=False)

    def _open_directory(self, path: Path, wanted: int) -> None:
        """Lets the owner's group write in the directory."""
        descriptor = _open_without_links(path)
        try:
            found = os.fstat(descriptor)
            if found.st_gid != self._owner or found.st_mode & wanted != wanted:
                os.fchown(descriptor, -1, self._owner)
                os.fchmod(descriptor, stat.S_IMODE(found.st_mode) | wanted)
        finally:
            os.close(descriptor)


def _real_path(path: Path, links: int = 40) -> Path:
    """Returns the path without links, but for those that are not root's or this user's: these are not followed.

    Raises `OSError` where there are more `links`.
    """
    real = Path("/")
    for part in (Path.cwd() / path).parts[1:]:
        above, real = real, real.parent if part == ".." else real / part
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = real.lstat()
            if stat.S_ISLNK(found.st_mode) and found.st_uid in {0, os.geteuid()}:
                if not links:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                real = _real_path(above / real.readlink(), links - 1)
    return real


def _open_without_links(path: Path) -> int:
    """Returns the open directory; raises `OSError` where any name of the path is a link, of a script, say."""
    descriptor = os.open("/", _DIRECTORY)
    for part in path.parts[1:]:
        above = descriptor
        try:
            descriptor = os.open(part, _DIRECTORY, dir_fd=above)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(above)
    return descriptor


def _is_to_give(status: os.stat_result, former: Set[int] = frozenset({0})) -> bool:
    """A second name of a file may be one elsewhere."""
    linked = stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink > 1)
    return status.st_uid in former and not linked
