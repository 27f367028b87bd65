"""Bytes that arrive by HTTPS and wait on disk: for a call that will use them, or for the rest of a file.

A private directory in `Work`, from where a file can be renamed to its place.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

from tentacle.disk import NotEnoughSpace, free_bytes, require_free, with_margin
from tentacle.errors import TentacleError, one_line
from tentacle.open_files import is_scarce
from tentacle.services.errors import FileError
from tentacle.wire.http import BodyBroken

log = logging.getLogger(__name__)

T = TypeVar("T")

_PART = "part-"
_KEPT_SECONDS = 86_400.0
_PIECE = 64 * 1024
"""Bytes that are written at once, in a thread."""
_LOOK_AGAIN = 8 * 1024 * 1024
"""Bytes after which it is looked again whether there is room for more."""


class Inbox:
    """`prepare` makes the directory, and removes what an earlier agent has left there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._promised = 0
        """Bytes that have been announced and are still to come, over all bodies."""

    def prepare(self) -> None:
        """Keeps parts of files, for a day.  Does not raise: where nothing can be written, bodies are refused."""
        try:
            if self._directory.is_symlink() or (self._directory.exists() and not self._directory.is_dir()):
                self._directory.unlink()
            self._make()
            self._sweep(everything=True)
        except OSError as error:
            why = error.strerror or one_line(error)
            log.warning("Cannot use %s for files that come by HTTPS: %s", self._directory, why)

    def part(self, owner: str, target: str) -> Path:
        """Where what has arrived of the file `target` waits for the rest that `owner` will send."""
        name = hashlib.sha256(f"{owner}\0{target}".encode()).hexdigest()
        return self._directory / f"{_PART}{name}"

    def new(self) -> Path:
        """A name for bytes that one call will use."""
        return self._directory / uuid4().hex

    def keep(self, content: bytes) -> Path:
        """Writes a few bytes to a new file.  Raises `NotEnoughSpace` or `FileError`."""
        self._make()
        require_free(self._directory, len(content) + self._promised)
        path = self.new()
        with self._opened(path, os.O_CREAT | os.O_EXCL) as file:
            file.write(content)
        return path

    async def receive(self, path: Path, body: AsyncIterator[bytes], length: int | None, *, after: int = 0) -> int:
        """Writes a body to the file `path`, behind its first `after` bytes; returns how long it is then.

        What has arrived stays there when the body breaks off.  Raises `NotEnoughSpace` or `FileError`; then what stood
        there before is left of it.
        """
        promised = length or 0
        with self._room(promised), self._opened(path, os.O_CREAT) as file:
            size = looked = after
            try:
                file.truncate(after)
                file.seek(after)
                async for pieces in _gathered(body):
                    await in_thread(_write, file, pieces)
                    length = sum(map(len, pieces))
                    size += length
                    taken = min(promised, length)
                    promised -= taken
                    self._promised -= taken
                    if size - looked >= _LOOK_AGAIN:
                        # A body that was not announced must not fill the disk either.
                        looked = size
                        require_free(self._directory, self._promised + _LOOK_AGAIN)
            except NotEnoughSpace:
                file.truncate(after)
                raise
            except OSError as error:
                file.truncate(after)
                raise _failed(error) from error
            finally:
                self._promised -= promised
        return size

    def _make(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(OSError):
            self._directory.chmod(0o700)

    def _sweep(self, *, everything: bool) -> None:
        before = time.time() - _KEPT_SECONDS
        for path in self._directory.iterdir():
            if (everything and not path.name.startswith(_PART)) or path.lstat().st_mtime < before:
                with suppress(OSError):
                    path.unlink()

    @contextmanager
    def _room(self, length: int) -> Iterator[None]:
        try:
            self._make()
            if free_bytes(self._directory) < with_margin(length) + self._promised:
                self._sweep(everything=False)
                require_free(self._directory, length + self._promised)
        except OSError as error:
            raise _failed(error) from error
        self._promised += length
        yield

    @contextmanager
    def _opened(self, path: Path, flags: int) -> Iterator[BinaryIO]:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
        except OSError as error:
            raise _failed(error) from error
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            if is_scarce(descriptor):
                raise FileError("The agent has too many open files to take this one in.")
            try:
                yield file
            except OSError as error:
                raise _failed(error) from error


def _failed(error: OSError) -> TentacleError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotEnoughSpace("The disk has become full while the bytes arrived; please free up space.")
    return FileError(f"The agent cannot keep what was sent: {error.strerror or type(error).__name__}")


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """As `asyncio.to_thread`; who is cancelled meanwhile waits for the end, so that files can be closed behind it."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def remove(path: Path) -> None:
    """Removes a file that may have been moved away."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _write(file: BinaryIO, pieces: list[bytes]) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[file.write(view) :]


async def _gathered(body: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """The same in as many pieces as are worth a thread.  What has arrived before the body breaks off is given."""
    pieces, size, broken = [], 0, None
    try:
        async for piece in body:
            pieces.append(piece)
            size += len(piece)
            if size >= _PIECE:
                yield pieces
                pieces, size = [], 0
    except BodyBroken as error:
        broken = error
    if pieces:
        yield pieces
    if broken is not None:
        raise broken
