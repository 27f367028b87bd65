"""Files on the disk: small ones are read with a limit and replaced in one step; free space is checked.

A reader of a file that is being replaced sees the old content or the new one, never a part.  Root's commands may work
in a directory of another user, so each path is walked (`tentacle.path_walk`), and what is made or replaced is so by the
open directory at its end.  Knows the file system.  Must not know what a file means.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import pwd
import stat
import sys
import time
from pathlib import Path

from tentacle.errors import TentacleError, one_line
from tentacle.path_walk import end_of, parent_of, status_of, wary_root

ABANDONED_SECONDS = 60
"""The age from which an unfinished file belongs to a writer that was killed."""
LARGEST_FILE = 4 * 1024 * 1024
"""Bytes.  A configuration is a few kilobytes; anything far above is a mistake, or an attack on our memory."""
_MEBIBYTE = 1024 * 1024
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ENOLCK})
"""How kernels, file systems and filters of system calls say that they cannot do what was asked for."""
_UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")


class DiskError(TentacleError):
    """A file or directory that cannot be read, written or made."""


class NotEnoughSpace(DiskError):
    """The file system of a directory has less free space than the work to come may need."""


def user_name(uid: int) -> str:
    """The name of a user; its number where the system has no name for it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def user_home() -> Path | None:
    """The home directory that the system has for this process's user; `None` where it knows no such user."""
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return None


def cannot(verb: str, path: Path, error: OSError) -> DiskError:
    """The error for a failed file operation; `verb` is `write` (a file), or for example `create directory`.

    The texts are the original's (docs/spec/command-line.md, "create-instance" and "delete-instance").
    """
    what = verb if " " in verb else f"{verb} file"
    message = f"Unable to {what} '{path}' as user '{user_name(os.geteuid())}'."
    if error.errno == errno.EBUSY:
        mount_hint = f"Mount its directory, '{path.parent}', in place of the file."
        return DiskError(f"{message} It is a mount of its own, which cannot be replaced.", hint=mount_hint)
    if isinstance(error, PermissionError):
        message, closed = f"{message} Please check file permissions.", closed_directory(path)
        if closed is None:
            return DiskError(message)
        owner = f"do it as its owner, {user_name(closed.stat().st_uid)}"
        return DiskError(message, hint=f"The directory '{closed}' is closed to that user: {owner}, or chmod o+x it.")
    return DiskError(f"{message} {one_line(OSError(error.strerror or type(error).__name__))}.")


def closed_directory(path: Path) -> Path | None:
    """The first directory on the way to `path` that this user may not go through (it has no `x`); usually none."""
    for folder in reversed(path.absolute().parents):
        if not os.access(folder, os.X_OK):
            return folder if os.access(folder, os.F_OK) else None
    return None


def sync(descriptor: int) -> None:
    """Flushes an open file or directory, where its file system can do that.  Raises `OSError` when writing failed."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED - {errno.EINVAL}:
            raise


def lock(descriptor: int, *, shared: bool = False) -> None:
    """Locks an open file without waiting; the lock ends with the process.

    By flock(2), and where there is none, by fcntl(2), which ends too when the process closes any descriptor of the
    file.  Raises `BlockingIOError` when another process holds it, and `OSError` where neither kind is to be had.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        fcntl.lockf(descriptor, how)


def set_mode(descriptor: int, mode: int) -> None:
    """Gives an open file `mode`, or on a file system that keeps no modes makes sure that it is not open to more users.

    Raises `OSError` when it is.
    """
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    if os.fstat(descriptor).st_mode & 0o077 & ~mode:
        raise OSError(errno.EOPNOTSUPP, "Its file system shows every file to all users; mount it with umask=077")


def read_bytes(path: Path, *, limit: int = LARGEST_FILE) -> bytes:
    """Returns the content of the regular file at `path`.

    Raises `FileNotFoundError` when there is none, and `DiskError` when it cannot be read, is larger than `limit` bytes
    or is not a regular file (reading a pipe or a device might never end).
    """
    try:
        with (
            end_of(path, wary_root()) as place,
            os.fdopen(place.open(os.O_RDONLY | os.O_NONBLOCK), "rb") as file,
        ):
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise DiskError(f"'{path}' is not a regular file.")
            place.require_readable(found)
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
    except IsADirectoryError:
        raise DiskError(f"'{path}' is not a regular file.") from None
    except OSError as error:
        raise cannot("read", path, error) from None
    if len(content) > limit:
        raise DiskError(f"The file '{path}' is larger than {limit} bytes, which no file of its kind is.")
    return content


def write_atomic(path: Path, content: bytes, *, mode: int, like: Path | None = None, own: bool = False) -> None:
    """Replaces the content of `path` in one step, or leaves it untouched and raises `DiskError`.

    The content is written to a file beside it, flushed to the disk and renamed.  The file has exactly `mode`.  Root
    also gives it the owner and group of `like`, which is by default the file that was there; unless it is to be `own`.
    """
    temporary = f".{path.name}.{os.urandom(4).hex()}.tmp"
    try:
        with parent_of(path, wary_root()) as place:
            place.require_writable()
            owner = None if own else place.status() if like is None else status_of(like)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=place.directory), "wb") as file:
                    keep_owner(file.fileno(), owner)
                    set_mode(file.fileno(), mode)
                    file.write(content)
                    file.flush()
                    sync(file.fileno())
                os.rename(temporary, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
            finally:  # also when we are interrupted
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=place.directory)
            flush_directory(".", inside=place.directory)
    except OSError as error:
        raise cannot("write", path, error) from None


def remove_file(path: Path) -> None:
    """Removes a file, or a link to one, that may be missing.  Raises `DiskError`."""
    try:
        with contextlib.suppress(FileNotFoundError), parent_of(path, wary_root()) as place:
            place.require_writable()
            os.unlink(place.name, dir_fd=place.directory)
    except OSError as error:
        raise cannot("delete", path, error) from None


def write_all(descriptor: int, content: bytes) -> None:
    """Writes all of `content` to an open file.  Raises `OSError`; a part may have been written then."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def exists(path: Path) -> bool:
    """Whether anything is at `path`.  Raises `DiskError` when this user may not see that."""
    try:
        return path.exists()
    except OSError as error:
        raise cannot("read", path, error) from None


def is_file(path: Path) -> bool:
    """Whether this user sees a regular file at `path`."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_directory(path: Path) -> bool:
    """Whether this user sees a directory at `path`."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_of_another_user(path: Path) -> bool:
    """Whether `path` is there and belongs to another user."""
    try:
        return path.stat().st_uid != os.geteuid()
    except OSError:
        return False


def restore_rights(directory: Path) -> None:
    """Gives the owner of the directory, if that is this user, the rights that a script has taken away."""
    found = directory.stat()
    if found.st_uid == os.geteuid() and found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(OSError):
            directory.chmod(stat.S_IMODE(found.st_mode) | stat.S_IRWXU)


def move_aside(path: Path) -> Path:
    """Renames what is in the way at `path`, also a link itself; returns its new path.  Raises `OSError`."""
    aside = path.with_name(f"{path.name}-{os.urandom(4).hex()}")
    path.rename(aside)
    return aside


def may_write(path: Path) -> bool:
    """Whether this user may make files in the directory `path`, or make that directory."""
    try:
        present = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    except OSError:
        return False
    return os.access(present, os.W_OK | os.X_OK)


def is_temporary(path: Path) -> bool:
    """Whether `path` has the name of a file that `write_atomic` has not finished."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def remove_unfinished(path: Path, *, older_than: float = 0) -> None:
    """Removes the unfinished files that killed writers of `path` left beside it.

    Without `older_than` the caller must be the only writer; with it, files that were written in the last `older_than`
    seconds stay.
    """
    with contextlib.suppress(OSError), parent_of(path, wary_root()) as place:
        place.require_writable()
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.directory)
        try:
            with os.scandir(folder) as entries:
                for left in entries:
                    name = left.name
                    if not name.startswith(f".{path.name}.") or not name.endswith(".tmp"):
                        continue
                    # One of the future was written before the clock was set.
                    age = abs(time.time() - left.stat(follow_symlinks=False).st_mtime)
                    fresh = older_than > 0 and age < older_than
                    if len(name) == len(path.name) + 14 and not fresh:
                        os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)


def make_directories(path: Path, *, mode: int = 0o755, like: Path | None = None) -> None:
    """Makes the directory `path` with `mode`, and its missing parents with 0755 (the umask applies to both).

    Root gives new directories the owner of `like`.  Directories that exist stay as they are.  Raises `DiskError`.
    """
    try:
        owner = None if like is None else status_of(like)
        with end_of(path, wary_root(), lambda inside, name: _make_directory(inside, name, 0o755, owner)) as place:
            found = place.status()
            if found is None:
                place.require_writable()
                os.close(_make_directory(place.directory, place.name, mode, owner))
            elif not stat.S_ISDIR(found.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise cannot("create directory", path, error) from None


def _make_directory(inside: int, name: str, mode: int, owner: os.stat_result | None) -> int:
    """Makes one directory, unless another process was faster, and returns a descriptor of it.

    Root may do so in a directory of another user, who could put a link in the way: hence the descriptors.
    """
    made = False
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=inside)
        made = True
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
    if made:
        keep_owner(descriptor, owner)
    return descriptor


def keep_owner(descriptor: int, like: os.stat_result | None) -> None:
    """Gives an open file, which root has just made, the owner and group of another one, if there is one."""
    if os.geteuid() == 0 and like is not None:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, like.st_uid, like.st_gid)


def flush_directory(path: Path | str, *, inside: int | None = None) -> None:
    """Makes renames and removals in the directory `path` survive a power cut; `inside` as other functions' `dir_fd`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=inside)
    try:
        sync(descriptor)
    except OSError as error:
        # So say CIFS and others of what is a directory; of a file it would mean that it is none.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def behind_links(path: Path) -> Path:
    """Where `path` leads, without links, for one who is going to write there; `path` itself where directories are
    missing.  Raises `DiskError`.
    """
    try:
        with end_of(path, wary_root()) as place:
            # Nobody sees any more by whose links it was reached.
            place.require_writable()
            return place.path
    except (FileNotFoundError, NotADirectoryError):
        return path.absolute()
    except OSError as error:
        raise cannot("read", path, error) from None


def beside(path: Path, suffix: str) -> Path:
    """Returns the path of the file that belongs to `path`: its name with `suffix`, in its directory.

    A symbolic link is followed, so that a file has one companion, whichever way it is reached.  Raises `DiskError`.
    """
    target = behind_links(path)
    return target.with_name(target.name + suffix)


def with_margin(size: int) -> int:
    """The bytes that must be free for `size` bytes of work: a tenth and a mebibyte more (docs/spec/services.md,
    "Free space").
    """
    return size + size // 10 + _MEBIBYTE


def free_bytes(directory: Path) -> int:
    """The bytes that this user may still write on the file system of `directory`.  Raises `OSError`.

    Where that cannot be asked, nothing shall be refused because of it: then as many as there are numbers for.
    """
    try:
        status = os.statvfs(directory)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return sys.maxsize
    return status.f_bavail * status.f_frsize


def require_free(directory: Path, size: int) -> None:
    """Raises `NotEnoughSpace` unless `size` bytes and their margin are free on the file system of `directory`."""
    free, required = free_bytes(directory), with_margin(size)
    if free >= required:
        return
    mount_point = directory.resolve()
    while not mount_point.is_mount() and mount_point != mount_point.parent:
        mount_point = mount_point.parent
    raise NotEnoughSpace(
        f"The drive '{mount_point}' containing the directory '{directory}' on machine "
        f"'{platform.node()}' does not have enough free disk space available for this operation to proceed. "
        f"The disk only has {file_size(free)} available; please free up at least {file_size(required)}."
    )


def file_size(size: int) -> str:
    """A size for people: steps of 1024, three decimals at most, none that are zero (`1.434 GB`)."""
    step = min((max(size, 1).bit_length() - 1) // 10, len(_UNITS) - 1)
    number = f"{max(size, 0) / 1024**step:.3f}".rstrip("0").rstrip(".")
    return f"{number} {_UNITS[step]}"
