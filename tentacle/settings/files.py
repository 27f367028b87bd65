"""Small files, read with a limit and written so that a reader sees the old text or the new one, never a part.

Knows the file system only; not what the text means.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from pathlib import Path

from tentacle.settings.errors import SettingsError, cannot

ABANDONED_SECONDS = 60
"""Nobody takes so long for one of our files."""
LARGEST_FILE = 4 * 1024 * 1024
"""Bytes.  A configuration is a few kilobytes; anything far above is a mistake, or an attack on our memory."""


def read_bytes(path: Path, *, limit: int = LARGEST_FILE) -> bytes:
    """The content of the regular file at `path`.

    Raises `FileNotFoundError` when there is none, and `SettingsError` when it cannot be read, is larger than
    `limit` bytes or is no regular file (a pipe or a device would keep us waiting for ever).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SettingsError(f"'{path}' is not a regular file.")
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
    except IsADirectoryError:
        raise SettingsError(f"'{path}' is not a regular file.") from None
    except OSError as error:
        raise cannot("read", path, error) from None
    if len(content) > limit:
        raise SettingsError(f"The file '{path}' is larger than {limit} bytes, which no file of its kind is.")
    return content


def write_atomic(path: Path, content: bytes, *, mode: int, like: Path | None = None) -> None:
    """Puts `content` in place of what is at `path`, or leaves that untouched and raises `SettingsError`.

    Written beside it, flushed to the disk, then renamed.  The file gets exactly `mode`, and when we are root the owner
    and group that it had, or those of `like`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            _write_new(temporary, content, mode, like=like or path)
            temporary.rename(path)
        finally:  # also when we are interrupted
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        flush_directory(path.parent)
    except OSError as error:
        raise cannot("write", path, error) from None


def exists(path: Path) -> bool:
    """Whether there is anything at `path`; raises `SettingsError` when we may not even see that."""
    try:
        return path.exists()
    except OSError as error:
        raise cannot("read", path, error) from None


def is_file(path: Path) -> bool:
    """Whether a regular file is at `path`, as far as we can see."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_directory(path: Path) -> bool:
    """Whether a directory is at `path`, as far as we can see."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_temporary(path: Path) -> bool:
    """Whether `path` is named like the unfinished work of a writer that was killed."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def remove_unfinished(path: Path, *, older_than: float = 0) -> None:
    """Removes what killed writers of `path` left beside it.

    Only for the sole writer of the moment; others leave alone what was not written `older_than` seconds ago.
    """
    with contextlib.suppress(OSError):
        for left in path.parent.iterdir():
            if not is_temporary(left) or not left.name.startswith(f".{path.name}."):
                continue
            fresh = older_than > 0 and left.lstat().st_mtime > time.time() - older_than
            if len(left.name) == len(path.name) + 14 and not fresh:
                left.unlink(missing_ok=True)


def make_directories(path: Path, *, mode: int = 0o755, like: Path | None = None) -> None:
    """Makes `path` with its parents: the directory itself with `mode`, missing parents with 0755 (umask applies).

    Directories that are made get the owner of `like`, where that exists and we may; one that is there stays as it is.
    """
    try:
        present = next(folder for folder in (path, *path.parents) if folder.exists())
        missing = path.relative_to(present).parts
        inside = os.open(present, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for depth, name in enumerate(missing, 1):
                own = mode if depth == len(missing) else 0o755
                outside, inside = inside, _make_directory(inside, name, own, like)
                os.close(outside)
        finally:
            os.close(inside)
    except OSError as error:
        raise cannot("create directory", path, error) from None


def _make_directory(inside: int, name: str, mode: int, like: Path | None) -> int:
    """Makes one directory, unless another process was faster, and opens it.

    By descriptors: root may do so in a directory of another user, who could put a link in the way of what becomes his.
    """
    made = False
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=inside)
        made = True
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
    if made and like is not None:
        keep_owner(descriptor, like)
    return descriptor


def keep_owner(descriptor: int, like: Path) -> None:
    """Gives the open file the owner and group of `like`, where that exists and we may."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            owner = like.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def flush_directory(path: Path) -> None:
    """Makes a rename or a removal inside `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_new(path: Path, content: bytes, mode: int, *, like: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        keep_owner(descriptor, like)
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
