"""Directory trees that scripts have made: removed, or measured, whatever has been done to them.

Neither follows a symbolic link or enters what is mounted in the tree: that belongs to somebody else.  A script may have
taken away its own rights on a directory, nested them deeper than any path may be long, and given them names that are
no text; so everything is done relative to open directories, few of them at a time, and nothing is recursive.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_ATTEMPTS = 3
_PAUSE = 0.1
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_STEP = 1000
"""Characters of a path at a time: in no encoding more bytes than the kernel takes, and more than any name has."""
_MOST_CAMPS = 64
"""Deep directories that are kept open to go on from, so that the way down is not gone again for everything in them."""


def remove_tree(path: Path, pause: Callable[[float], None] = time.sleep) -> bool:
    """Removes a directory; true when it is gone.  Tries again when a script still writes there."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            pause(_PAUSE)
        try:
            _empty(path)
            path.rmdir()
        except FileNotFoundError:
            return True
        except NotADirectoryError:
            path.unlink(missing_ok=True)
            return True
        except OSError:
            continue
        return True
    return False


def _empty(path: Path) -> None:
    above = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        root = _enter(path.name, above)
        try:
            mount = _mount_of(above)
            _require_mount(root, mount)
            _Clearance(root, mount).run()
        finally:
            os.close(root)
    finally:
        os.close(above)


def _mount_of(descriptor: int) -> str:
    """Which mount an open file belongs to: one that is bound elsewhere is on the same device."""
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
    """Takes away everything below one directory.

    Each directory inside is moved up beside the first ones before it is looked into.  So there is no depth; and what
    is mounted cannot be moved, so that it is never looked into.
    """

    def __init__(self, root: int, mount: str) -> None:
        self._root = root
        self._mount = mount
        self._prefix = f".{secrets.token_hex(8)}-"
        self._moved: list[str] = []
        self._number = 0

    def run(self) -> None:
        self._clear(self._root)
        while self._moved:
            name = self._moved.pop()
            # What cannot be removed stays, with all the others that it does not hinder gone.
            with contextlib.suppress(OSError):
                directory = _enter(name, self._root)
                try:
                    self._clear(directory)
                finally:
                    os.close(directory)
                os.rmdir(name, dir_fd=self._root)

    def _clear(self, directory: int) -> None:
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                try:
                    os.unlink(name, dir_fd=directory)
                except IsADirectoryError:
                    self._move_up(name, directory)

    def _move_up(self, name: str, directory: int) -> None:
        self._number += 1
        fresh = f"{self._prefix}{self._number}"
        try:
            os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=self._root)
        except PermissionError:
            # Who moves a directory writes its entry for the one above.
            os.close(_enter(name, directory))
            os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=self._root)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._clear_in_place(name, directory)
            return
        self._moved.append(fresh)

    def _clear_in_place(self, name: str, directory: int) -> None:
        """What a lower layer of an overlay holds, a container's image say, can be removed but not moved."""
        inner = _enter(name, directory)
        try:
            _require_mount(inner, self._mount)
            self._clear(inner)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=directory)


def _enter(name: str, directory: int | None = None) -> int:
    """The open directory, opened up to its owner: a script may have taken away its own rights."""
    try:
        inner = os.open(name, _DIRECTORY, dir_fd=directory)
    except PermissionError:
        return _enter_closed(name, directory)
    if os.fstat(inner).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(OSError):
            os.fchmod(inner, stat.S_IRWXU)
    return inner


def _enter_closed(name: str, directory: int | None) -> int:
    handle = os.open(name, _HANDLE, dir_fd=directory)
    try:
        itself = f"/proc/self/fd/{handle}"
        os.chmod(itself, stat.S_IRWXU)  # noqa: PTH101
        return os.open(itself, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(handle)


def entries_below(path: Path) -> Iterator[os.stat_result]:
    """The directory itself and everything below it on the same file system.  Raises `OSError` when it is not there."""
    with contextlib.ExitStack() as opened:
        top = os.open(path, _DIRECTORY)
        opened.callback(os.close, top)
        first = os.fstat(top)
        yield first
        left = [(top, ".")]
        camps = 0
        while left:
            camp, inner = left.pop()
            try:
                directory = _open_below(camp, inner)
            except OSError:
                # It has gone, or its script has closed it to everybody.
                continue
            found = _look(directory)
            if len(inner) > _STEP // 2 and camps < _MOST_CAMPS:
                opened.callback(os.close, directory)
                camp, inner, camps = directory, ".", camps + 1
            else:
                os.close(directory)
            for name, status in found:
                if status.st_dev == first.st_dev:
                    yield status
                    if stat.S_ISDIR(status.st_mode):
                        left.append((camp, f"{inner}/{name}"))


def _look(directory: int) -> list[tuple[str, os.stat_result]]:
    found: list[tuple[str, os.stat_result]] = []
    # What goes while we look takes nothing any more.
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                found.append((entry.name, entry.stat(follow_symlinks=False)))
    return found


def _open_below(top: int, inner: str) -> int:
    """The open directory, reached in steps, since its path may be longer than the kernel takes."""
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
