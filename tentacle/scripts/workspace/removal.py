"""Removes or walks directory trees that scripts have made, in whatever state they are.

Neither follows a symbolic link or enters a mount inside the tree: what lies there is not the script's.  A script may
have removed its own rights on a directory, nested directories deeper than any path may be long, and used names that are
not text, or made more of them than fit into memory.  So all work is relative to open directories, few of them at a
time, nothing is recursive, and no directory is read as a whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tentacle.scripts.shim.file_flags import free, free_path

_BATCH = 500
"""Entries that are removed without a rest."""
_ATTEMPTS = 3
_PAUSE = 0.1
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_STEP = 1000
"""Characters of a path at a time: in any encoding fewer bytes than the kernel's limit, and more than a name has."""
_MOST_BASES = 64
"""Deep directories that stay open as starting points, so that the walk need not descend from the top each time."""


class RemovalStoppedError(Exception):
    """`Pace.stop` was called: the rest of the tree stays."""


class Pace:
    """Lets removals in the background rest, until `stop` ends them all.  May be used from several threads."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def rest(self, seconds: float) -> None:
        """Returns after that time; raises `RemovalStoppedError`."""
        if self._stopped.wait(seconds):
            raise RemovalStoppedError

    def stop(self) -> None:
        self._stopped.set()


def remove_tree(path: Path, pause: Callable[[float], None] = time.sleep) -> bool:
    """Removes a directory; returns whether it is gone.  Tries again when a script still writes there.

    Half of the time that a large tree takes is spent in `pause`, so that others get at the disk and at this process.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            pause(_PAUSE)
        try:
            try:
                _empty(path, pause)
                _remove_empty(path)
            except NotADirectoryError:
                path.unlink()
        except FileNotFoundError:
            return True
        except OSError:
            continue
        return True
    return False


def _remove_empty(path: Path) -> None:
    try:
        path.rmdir()
    except PermissionError:
        freed = [free_path(path), free_path(path.parent)]
        if not any(freed):
            raise
        path.rmdir()


def _empty(path: Path, pause: Callable[[float], None]) -> None:
    above = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        root = _enter(path.name, above)
        try:
            mount = _mount_of(above)
            _require_mount(root, mount)
            _Clearance(root, mount, pause).run()
        finally:
            os.close(root)
    finally:
        os.close(above)


def _mount_of(descriptor: int) -> str:
    """Returns the mount of an open file.  Its device is not enough, since a bind mount has the same one."""
    information = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY)
    try:
        text = os.read(information, 4096).decode()
    finally:
        os.close(information)
    return text.partition("mnt_id:")[2].partition("\n")[0].strip()


def _require_mount(descriptor: int, mount: str) -> None:
    if _mount_of(descriptor) != mount:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


class _Clearance:
    """Removes everything below one directory.

    Moves each directory inside to the top before it reads it, so there is no depth.  A mount cannot be moved, so it is
    never entered.
    """

    def __init__(self, root: int, mount: str, pause: Callable[[float], None]) -> None:
        self._root = root
        self._mount = mount
        self._pause = pause
        self._rested = time.monotonic()
        self._seen = 0
        self._prefix = f".{secrets.token_hex(8)}-"
        self._moved: list[str] = []
        self._number = 0

    def run(self) -> None:
        self._clear(self._root)
        while self._moved:
            name = self._moved.pop()
            # An entry that cannot be removed stays; the others are removed.
            with contextlib.suppress(OSError):
                directory = _enter(name, self._root)
                try:
                    self._clear(directory)
                finally:
                    os.close(directory)
                os.rmdir(name, dir_fd=self._root)

    def _clear(self, directory: int) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                self._rest()
                if entry.name.startswith(self._prefix):
                    # It has just come here, and is cleared later.
                    continue
                with contextlib.suppress(OSError):
                    self._remove(entry.name, directory)

    def _remove(self, name: str, directory: int) -> None:
        """Raises `OSError`."""
        for attempt in range(2):
            try:
                try:
                    os.unlink(name, dir_fd=directory)
                except IsADirectoryError:
                    self._move_up(name, directory)
            except PermissionError:
                # Not lazily: both may have these flags.
                freed = [free(directory), free_path(name, directory)]
                if attempt or not any(freed):
                    raise
            else:
                return

    def _rest(self) -> None:
        self._seen += 1
        if self._seen % _BATCH == 0:
            self._pause(time.monotonic() - self._rested)
            self._rested = time.monotonic()

    def _move_up(self, name: str, directory: int) -> None:
        self._number += 1
        fresh = f"{self._prefix}{self._number}"
        try:
            os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=self._root)
        except PermissionError:
            # Moving a directory changes its entry `..`, which needs the right to write it.
            os.close(_enter(name, directory))
            os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=self._root)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # A directory of an overlay's lower layer, say a container's image, can be removed but not moved.
            inner = _enter(name, directory)
            try:
                _require_mount(inner, self._mount)
                self._clear(inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=directory)
            return
        self._moved.append(fresh)


def _enter(name: str, directory: int | None = None) -> int:
    """Returns the open directory.  Restores the owner's rights, which a script may have removed."""
    try:
        inner = os.open(name, _DIRECTORY, dir_fd=directory)
    except PermissionError:
        handle = os.open(name, _HANDLE, dir_fd=directory)
        try:
            itself = f"/proc/self/fd/{handle}"
            os.chmod(itself, stat.S_IRWXU)  # noqa: PTH101
            return os.open(itself, os.O_RDONLY | os.O_DIRECTORY)
        finally:
            os.close(handle)
    if os.fstat(inner).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(OSError):
            os.fchmod(inner, stat.S_IRWXU)
    return inner


def entries_below(path: Path) -> Iterator[os.stat_result]:
    """Yields the directory and everything below it on the same file system, and no directory twice.

    Raises `OSError` when it is missing.
    """
    yield path.lstat()
    for _, entries in directories_below(path):
        yield from (status for _, status in entries)


def directories_below(path: Path) -> Iterator[tuple[int, Iterator[tuple[str, os.stat_result]]]]:
    """Yields the directory and all below it, open for as long as the caller looks at it, with what is in each.

    What is in it must be read to its end.  Leaves out what is on another file system, and yields no directory twice.
    Raises `OSError` when `path` is missing.
    """
    with contextlib.ExitStack() as opened:
        top = os.open(path, _DIRECTORY)
        opened.callback(os.close, top)
        first = os.fstat(top)
        # What is mounted from the same file system may be there under two names.
        directories = {first.st_ino}

        def entries_of(directory: int, inside: list[str]) -> Iterator[tuple[str, os.stat_result]]:
            for name, status in _entries(directory):
                if status.st_dev != first.st_dev or status.st_ino in directories:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    directories.add(status.st_ino)
                    inside.append(name)
                yield name, status

        left = [(top, ".")]
        bases = 0
        while left:
            base, inner = left.pop()
            try:
                directory = _open_below(base, inner)
            except OSError:
                # It is gone, or its script has removed all rights.
                continue
            with contextlib.ExitStack() as here:
                here.callback(os.close, directory)
                inside: list[str] = []
                yield directory, entries_of(directory, inside)
                if len(inner) > _STEP // 2 and bases < _MOST_BASES:
                    opened.push(here.pop_all())
                    base, inner, bases = directory, ".", bases + 1
            left += [(base, f"{inner}/{name}") for name in inside]


def _entries(directory: int) -> Iterator[tuple[str, os.stat_result]]:
    # Entries that vanish meanwhile occupy nothing.
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                yield entry.name, entry.stat(follow_symlinks=False)


def _open_below(top: int, inner: str) -> int:
    """Returns the open directory, reached in steps, since its path may be longer than the kernel's limit."""
    directory = os.dup(top)
    while inner:
        cut = len(inner) if len(inner) <= _STEP else inner.rindex("/", 0, _STEP + 1)
        step, inner = inner[:cut], inner[cut + 1 :]
        try:
            further = os.open(step, _DIRECTORY, dir_fd=directory)
        finally:
            os.close(directory)
        directory = further
    return directory
