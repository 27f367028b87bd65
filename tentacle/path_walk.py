"""Walks a path one name at a time, by open directories, and decides at each symbolic link whether it is followed.

Root, or an agent whose scripts run as other users, works in directories that those users may write.  There a name can
become a link between two calls, and a link can lead to what its maker may not touch.  So a path is walked once; all
that follows uses the open directory at its end, and a name that is never followed.

The kernel's `openat2` with RESOLVE_BENEATH does a part of this.  It refuses absolute links also where they lead back
inside, knows nothing of who made a link, and is missing in old kernels and under many seccomp profiles: then the walk
would be needed beside it.

Knows directories, owners and modes.  Must not know what lies at the end of a path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tentacle.records import dataclass

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_LINKS = 40
"""How many links are followed; the kernel's limit."""
_LONGEST_PATH = 4095
"""Bytes, as the kernel's limit: nobody else could use what is reached by a longer one."""
_READ, _WRITE, _SEARCH = 4, 2, 1

Make = Callable[[int, str], int]
"""Makes a directory that is missing, inside an open one; returns a descriptor of it.  Raises `OSError`."""


class LinkRefused(OSError):
    """A link that is not followed; `strerror` says which one and why."""

    def __init__(self, link: Path, why: str) -> None:
        super().__init__(errno.ELOOP, f"The link '{link}' is not followed: {why}", str(link))


@dataclass(frozen=True)
class Trust:
    """Which links are followed.  Without anything all are, as the kernel does."""

    fenced: Path | None = None
    """Each entry of this directory is a place of its own: no link inside it leads out."""
    wary: bool = False
    """Whether links that others have made, or could have made, lead only to what their makers may use too."""


def wary_root() -> Trust:
    """For root, who may be working in the directory of another user; everybody else has only their own rights."""
    return Trust(wary=os.geteuid() == 0)


class Place:
    """The end of a path: an open directory and a name in it, which is no link, or `.` for the directory itself."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._own = {0, os.geteuid()}
        self._fenced = _status(trust.fenced)
        self._trail: list[tuple[os.stat_result, str]] = []
        """Every directory on the way, with its name; only the last one is open, since there may be thousands."""
        self._makers: list[tuple[int, int]] = []
        """User and group of each link that was followed and is, or may be, the work of others."""
        self._fence: os.stat_result | None = None
        self._followed = Path("/")
        self.name = "."
        self.through_kernel = False
        """Whether the name is a link of `/proc` to an open file, which only the kernel can follow."""
        self.directory = -1
        """The open directory, good for everything that is relative to one."""
        self._enter(os.open("/", _DIRECTORY), "")

    @property
    def path(self) -> Path:
        """Where it is, without links."""
        return self.at(self.name)

    @property
    def _folder(self) -> os.stat_result:
        return self._trail[-1][0]

    @property
    def by_others(self) -> bool:
        """Whether a link that is, or may be, the work of others was followed on the way."""
        return bool(self._makers)

    def close(self) -> None:
        os.close(self.directory)

    def status(self) -> os.stat_result | None:
        """What has the name now; `None` for nothing.  Raises `OSError`."""
        try:
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=self.through_kernel)
        except FileNotFoundError:
            return None

    def open(self, flags: int, mode: int = 0o600) -> int:
        """Opens what has the name, and no link.  Raises `LinkRefused`, and `OSError` as the kernel would."""
        nofollow = 0 if self.through_kernel else os.O_NOFOLLOW
        try:
            return os.open(self.name, flags | nofollow | os.O_CLOEXEC, mode, dir_fd=self.directory)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise LinkRefused(self.path, "no link belongs there") from None
            raise

    def require_readable(self, status: os.stat_result) -> None:
        """Raises `LinkRefused` for a file that is not for those who could have led us to it."""
        self._require(status, _READ)
        # Of the directory's own owner, where that is not us; else of anybody.
        foreign = status.st_uid in self._own or status.st_uid != self._folder.st_uid
        if foreign and not status.st_mode & _READ:
            self.require_alone(status)

    def require_alone(self, status: os.stat_result) -> None:
        """Raises `LinkRefused` for a file with several names, where one of them may be the work of others.

        Who may write in a directory can, on some hosts, give there a second name to a file that he may not use.
        """
        # The sticky bit keeps nobody from that.
        if self._trust.wary and stat.S_ISREG(status.st_mode) and status.st_nlink > 1 and self._is_open(sticky=0):
            raise LinkRefused(self.path, "it is one of several names (hard links) of a file, and others can make such")

    def require_writable(self) -> None:
        """Raises `LinkRefused` where those who led us here may not make or replace what has the name themselves, or
        may not write in it when it is a directory.
        """
        found = self.status() if self._makers else None
        if found is None or not stat.S_ISDIR(found.st_mode):
            self._require(self._folder, _WRITE)
        if found is not None and (stat.S_ISDIR(found.st_mode) or self._folder.st_mode & stat.S_ISVTX):
            self._require(found, _WRITE)

    def walk(self, path: str, make: Make | None, *, to_the_end: bool) -> None:
        """Walks to the last name of `path`; with `to_the_end` also through that, while it is a link.

        A directory that is missing where a link leads is not made: nobody has named it.
        """
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        if not path.startswith("/"):
            # Not from the root: a user need not have the right to come here from there.
            self._trail.clear()
            self._enter(os.open(".", _DIRECTORY), os.getcwd())  # noqa: PTH109
        names, links = path.split("/")[::-1], 0
        own = len(names)
        """So many of the names that are left are of `path`, the others of a link's target, where nothing is made."""
        while names:
            name, target = names.pop(), None
            if name == "..":
                self._leave()
            elif name in ("", "."):
                continue
            elif names:
                target = self._step(name, make if len(names) < own else None)
            else:
                self.name = name
                target = self._target(name) if to_the_end else None
            if target is not None:
                self.name, links, own = ".", links + 1, min(own, len(names))
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if target.startswith("/"):
                    self._trail.clear()
                    self._enter(os.open("/", _DIRECTORY), "")
                names += target.split("/")[::-1]
        self._require_inside()

    def _step(self, name: str, make: Make | None) -> str | None:
        """Enters the directory of that name, and makes it when it is missing; returns the target of a link instead."""
        try:
            descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self.directory)
        except FileNotFoundError:
            self._require_inside()
            if make is None:
                raise
            if self._makers:
                self.require_writable()
            descriptor = make(self.directory, name)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            target = self._target(name)
            if target is not None or not self.through_kernel:
                if target is None:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.at(name))) from None
                return target
            self.through_kernel = False
            descriptor = os.open(name, _DIRECTORY, dir_fd=self.directory)
        self._enter(descriptor, name)
        return None

    def _target(self, name: str) -> str | None:
        """Where the link of that name leads; `None` when it is none, or one that only the kernel can follow."""
        try:
            descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.directory)
        except FileNotFoundError:
            return None
        try:
            link = os.fstat(descriptor)
            if not stat.S_ISLNK(link.st_mode):
                return None
            target = os.readlink("", dir_fd=descriptor)
        finally:
            os.close(descriptor)
        self._followed = self.at(name)
        folder = self._folder
        if self._trust.wary and ({link.st_uid, folder.st_uid} - self._own or self._is_open(sticky=stat.S_ISVTX)):
            # In a directory with the set-group-ID bit a link has the group of that, whoever makes it.
            self._makers.append((link.st_uid, 0 if folder.st_mode & stat.S_ISGID else link.st_gid))
        # Links of `/proc` to open files, directories and roots lead somewhere else than their text says.
        if link.st_size == len(os.fsencode(target)) or self._leads(name, target):
            return target
        if self._makers or self._fence is not None:
            raise LinkRefused(self._followed, "a script may have chosen where it leads")
        self.through_kernel = True
        return None

    def _leads(self, name: str, target: str) -> bool:
        """Whether the kernel comes by the link of that name to where its text leads."""
        try:
            here = os.stat(name, dir_fd=self.directory)
            return os.path.samestat(here, os.stat(target, dir_fd=self.directory))
        except FileNotFoundError:
            return False

    def _enter(self, descriptor: int, name: str) -> None:
        if self.directory >= 0:
            os.close(self.directory)
        self.directory = descriptor
        status = os.fstat(descriptor)
        above = self._folder if self._trail else None
        self._trail.append((status, name))
        self._require(status, _SEARCH)
        if self._fence is None and self._fenced is not None and above is not None:
            self._fence = status if os.path.samestat(above, self._fenced) else None

    def _leave(self) -> None:
        """Goes back to the directory that this one was entered from; from the first one, to the one above."""
        above, (_, name) = os.open("..", _DIRECTORY, dir_fd=self.directory), self._trail.pop()
        known = self._trail.pop() if self._trail else None
        self._enter(above, known[1] if known else os.path.dirname(name))  # noqa: PTH120
        if known and not os.path.samestat(self._folder, known[0]):
            raise LinkRefused(self._followed, f"the directory '{name}' on its way was moved meanwhile")

    def _require_inside(self) -> None:
        fence = self._fence
        if fence is not None and not any(os.path.samestat(fence, one) for one, _ in self._trail):
            raise LinkRefused(self._followed, "it leads out of the directory of its script")

    def _require(self, status: os.stat_result, right: int) -> None:
        if not all(self._may(maker, status, right) for maker in self._makers):
            raise LinkRefused(self._followed, "it leads to what whoever may have made it must not use")

    def _may(self, maker: tuple[int, int], status: os.stat_result, right: int) -> bool:
        """Whether the maker of a link has a right, as far as that can be told from modes."""
        uid, gid = maker
        if uid == status.st_uid and uid not in self._own:
            return True
        if gid == status.st_gid and gid not in (0, os.getegid()):
            return bool(status.st_mode & right << 3)
        return bool(status.st_mode & right)

    def _is_open(self, *, sticky: int) -> bool:
        """Whether others may put links of theirs, or links that became ours, into the directory that is open.

        `sticky` is the bit of a mode that keeps them from it.
        """
        folder = self._folder
        if folder.st_uid not in self._own:
            return True
        # The bits of the group are also the bound of what an access control list allows.
        if not folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or folder.st_mode & sticky:
            return False
        # Configurations that Kubernetes mounts lie in such a directory, by links.
        with suppress(OSError):
            return not os.fstatvfs(self.directory).f_flag & os.ST_RDONLY
        return True

    def at(self, name: str) -> Path:
        """The path of a name in the directory."""
        return Path("/", *(one for _, one in self._trail), "" if name == "." else name)


@contextmanager
def parent_of(path: Path | str, trust: Trust, make: Make | None = None) -> Iterator[Place]:
    """Yields the place of `path`, whose last name is looked at by nobody.

    Missing directories on the way are made with `make`.  Raises `LinkRefused`, and `OSError` as the kernel would.
    """
    with _walked(path, trust, make, to_the_end=False) as place:
        yield place


@contextmanager
def end_of(path: Path | str, trust: Trust, make: Make | None = None) -> Iterator[Place]:
    """As `parent_of`; when the last name is a link, the place of what that leads to, which may be missing."""
    with _walked(path, trust, make, to_the_end=True) as place:
        yield place


def status_of(path: Path) -> os.stat_result | None:
    """What is at the end of `path`; `None` for nothing, and for what root does not follow."""
    with suppress(OSError), end_of(path, wary_root()) as place:
        return place.status()
    return None


def open_alone(path: Path, flags: int, *, like: Path | None = None) -> int:
    """Opens the file at `path`, which only this program writes; follows no link at the end.

    One that is missing is made with mode 0600, unless it is to be read only.
    A file with other names in a directory of another user is not opened: root would write over it.  Root gives a new
    file the owner of `like`.  Raises `OSError`.
    """
    with parent_of(path, wary_root()) as place:
        place.require_writable()
        if flags & os.O_ACCMODE != os.O_RDONLY and place.status() is None:
            with suppress(FileExistsError):
                descriptor = place.open(flags | os.O_CREAT | os.O_EXCL)
                owner = None if like is None else status_of(like)
                if owner is not None and os.geteuid() == 0:
                    with suppress(OSError):
                        os.fchown(descriptor, owner.st_uid, owner.st_gid)
                return descriptor
        descriptor = place.open(flags)
        try:
            place.require_alone(os.fstat(descriptor))
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def give(name: str, inside: int, uid: int, gid: int) -> bool:
    """Gives an entry of the open directory `inside`, also a link itself, to a user; returns whether that is done.

    A file with several names (hard links) keeps its owner: one of them may lie elsewhere, and be the reason for another
    one here.  Raises `OSError`.
    """
    entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
    try:
        # What the name leads to may be exchanged at any time; what is open stays what it is.
        found = os.fstat(entry)
        if not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1:
            return False
        os.chown(f"/proc/self/fd/{entry}", uid, gid)
        return True
    finally:
        os.close(entry)


@contextmanager
def _walked(path: Path | str, trust: Trust, make: Make | None, *, to_the_end: bool) -> Iterator[Place]:
    place = Place(trust)
    try:
        try:
            place.walk(str(path), make, to_the_end=to_the_end)
        except LinkRefused:
            raise
        except OSError as error:
            if isinstance(error.filename, str) and not error.filename.startswith("/"):
                error.filename = str(place.at(error.filename))
            raise
        yield place
    finally:
        place.close()


def _status(path: Path | None) -> os.stat_result | None:
    try:
        return None if path is None else path.stat()
    except OSError:
        return None
