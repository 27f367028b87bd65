"""Keeps incoming data streams on disk until their call has used them, never in memory.

A spool is a private directory.  Each file belongs to one call and is removed when that call has been answered.  What a
killed process left is removed when the spool is created.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

from tentacle.disk import free_bytes, with_margin
from tentacle.open_files import is_scarce
from tentacle.transport.errors import TransportError
from tentacle.transport.stream import piece_size
from tentacle.write_back import start_writing

log = logging.getLogger(__name__)

_WORTH_A_THREAD = 64 * 1024
_PIECES = 2
"""So many pieces, as they come from the network, are written together."""
_MOST_AT_ONCE = 1024
"""Pieces that one system call writes: IOV_MAX of Linux."""
_WRITE_BACK = 8 * 1024 * 1024
"""After so many bytes the system is asked to begin with them, of a file that is to stay."""


class Spool:
    """A directory for data streams.  `create` makes it, private, and empties it."""

    def __init__(self, directory: Path, *, for_keeps: bool = False) -> None:
        """`for_keeps`: its files will stay, so they are hashed and on their way to the disk while they arrive."""
        self._directory = directory
        self._promised: Counter[Delivery] = Counter()
        self._digests: dict[Path, str] | None = {} if for_keeps else None

    def digest_of(self, path: Path) -> str | None:
        """Returns the SHA-1 of a file, in lower-case hex; `None` where it has to be read for that."""
        return (self._digests or {}).get(path)

    def create(self) -> None:
        """Raises `TransportError` when the directory cannot be made, but not on a full disk: files are refused then."""
        try:
            if self._directory.is_symlink():
                # The link is there to put the files on another disk, and not to have that directory emptied.
                raise OSError(errno.ELOOP, "it is a symbolic link")
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Some file systems have no modes.
            with suppress(OSError):
                self._directory.chmod(0o700)
            for left in self._directory.iterdir():
                left.unlink()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                log.warning("No files are taken in: there is no room for %s", self._directory)
                return
            raise TransportError(
                f"cannot use {self._directory} for incoming files: {error.strerror}",
                hint="the agent needs a directory that belongs to it and has room",
            ) from error

    def move(self, directory: Path) -> None:
        """Uses another directory, which must be made with `create`, from the next delivery on."""
        self._directory = directory

    def delivery(self) -> Delivery:
        """A place for the data streams of one message."""
        return Delivery(self._directory, self._promised, self._digests)


class Delivery:
    """The data streams of one message, as they arrive.

    A stream for which the disk has no room, or too few files can still be opened, is read and thrown away: the
    connection stays in step, and the call is answered with an error because its file is missing from `files`.
    """

    def __init__(self, directory: Path, promised: Counter[Delivery], digests: dict[Path, str] | None = None) -> None:
        """`promised` says of all deliveries of the spool how many bytes are still to come.

        The SHA-1 of each file is put into `digests`, and taken out when the delivery is discarded.
        """
        self._directory = directory
        self._promised = promised
        self._digests = digests
        self.files: dict[UUID, Path] = {}
        self._current: BinaryIO | None = None
        self._current_id: UUID | None = None
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._writing: asyncio.Future[int] | None = None

    def begin(self, identity: UUID, length: int) -> None:
        """Makes a file for a stream of `length` bytes, if there is room for all of them."""
        path = self._directory / uuid4().hex
        try:
            # The directory may have been removed meanwhile.
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if free_bytes(self._directory) < with_margin(length) + self._promised.total():
                return
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if is_scarce(descriptor):
                os.close(descriptor)
                path.unlink()
                return
        except OSError:
            # No inode is left, or the directory cannot be used any more: as good as full.
            return
        self._current = os.fdopen(descriptor, "wb", buffering=0)
        self._promised[self] = length
        self._current_id = identity
        self.files[identity] = path
        self._hash = hashlib.sha1(usedforsecurity=False)

    async def write(self, data: bytes) -> None:
        """Takes the next bytes of the stream; what came before may still be on its way to the disk."""
        if self._current is None:
            return
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size >= _PIECES * piece_size():
            await self._write_behind()

    async def end(self) -> None:
        """The stream is complete, and so is its file."""
        if self._waiting_size >= _WORTH_A_THREAD:
            await self._write_behind()
        await self._written()
        if self._current is not None and self._waiting:
            try:
                self._write_all(self._current, self._waiting)
            except OSError:
                self._give_up()
        if self._digests is not None and self._current_id is not None:
            self._digests[self.files[self._current_id]] = self._hash.hexdigest()
        self._close()

    def discard(self) -> None:
        """Removes every file that has not been moved away."""
        self._close()
        for path in self.files.values():
            if self._digests is not None:
                self._digests.pop(path, None)
            with suppress(OSError):
                path.unlink(missing_ok=True)

    async def _write_behind(self) -> None:
        """Lets a thread write what waits, while more arrives."""
        await self._written()
        if self._current is not None:
            pieces, self._waiting, self._waiting_size = self._waiting, [], 0
            self._writing = asyncio.get_running_loop().run_in_executor(None, self._write_all, self._current, pieces)

    def _write_all(self, file: BinaryIO, pieces: list[bytes]) -> int:
        """Returns how many bytes that were."""
        size = sum(map(len, pieces))
        _write_to(file.fileno(), pieces)
        if self._digests is not None:
            for piece in pieces:
                self._hash.update(piece)
            end = file.tell()
            if end // _WRITE_BACK > (end - size) // _WRITE_BACK:
                start_writing(file.fileno())
        return size

    async def _written(self) -> None:
        """Waits for the thread that writes.  When this is cancelled, the thread goes on, and `_close` knows of it."""
        if self._writing is None:
            return
        try:
            size = await asyncio.shield(self._writing)
            self._promised[self] -= size
        except OSError:
            self._give_up()
        self._writing = None

    def _close(self) -> None:
        self._promised.pop(self, None)
        self._waiting, self._waiting_size = [], 0
        if self._current is None:
            return
        if self._writing is None:
            self._current.close()
        else:
            # Closed earlier, its number might be another file's when the thread comes to write.
            self._writing.add_done_callback(partial(_close_after, self._current))
        self._current = self._current_id = self._writing = None

    def _give_up(self) -> None:
        """Forgets the stream and removes its file, because the disk is full after all."""
        identity = self._current_id
        self._writing = None
        self._close()
        if identity is not None:
            with suppress(OSError):
                self.files.pop(identity).unlink()


def _write_to(descriptor: int, pieces: Sequence[bytes]) -> None:
    """Writes all the pieces, as they are: putting them together would take as long as writing them."""
    left = [memoryview(piece) for piece in reversed(pieces)]
    while left:
        written = os.writev(descriptor, left[: -_MOST_AT_ONCE - 1 : -1])
        while left and written >= len(left[-1]):
            written -= len(left.pop())
        if left:
            left[-1] = left[-1][written:]


def _close_after(file: BinaryIO, writing: asyncio.Future[int]) -> None:
    """Nobody wants to know any more whether it could be written."""
    file.close()
    if not writing.cancelled():
        writing.exception()
