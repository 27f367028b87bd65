"""Files up and down (docs/spec/services.md, "File transfer").

A path is used as the server gives it: absolute, or relative to the agent's home.  A server that may run scripts may
write files; what is protected here is the host against accidents: an upload appears whole or not at all.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID, uuid4

from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.file_transfer import UploadResult
from tentacle.disk import require_free
from tentacle.services.dispatch import Files, Outgoing, ServiceMethod
from tentacle.services.errors import AccessDenied, ArgumentError, FileError, MissingFile, ServiceError
from tentacle.services.parts import Parts

_NO_SUCH_FILE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP))


class FileTransferService:
    """`home` is where relative paths begin; `None` when the instance has none.  `parts` are files half written."""

    name = "IFileTransferService"
    implementation = "Octopus.Tentacle.Core.Services.FileTransfer.FileTransferService"

    def __init__(self, home: Path | None, parts: Parts | None = None) -> None:
        self._home = home
        self._parts = parts or Parts(None)

    @property
    def methods(self) -> Mapping[str, ServiceMethod]:
        return {"UploadFile": self._upload, "DownloadFile": self._download}

    async def _upload(self, arguments: tuple[Any, ...], files: Files) -> UploadResult:
        remote_path, stream = arguments
        target = self.resolve(remote_path)
        if stream is None:
            return UploadResult(str(target), None, 0)
        return await asyncio.to_thread(_place, files.get(stream.id), target, stream.length, self._parts)

    async def _download(self, arguments: tuple[Any, ...], _files: Files) -> Outgoing:
        opened = await asyncio.to_thread(_open, self.resolve(arguments[0]))
        if opened is None:
            return Outgoing(None)
        file, length = opened
        identity: UUID = uuid4()
        return Outgoing(DataStream(identity, length), {identity: file})

    def resolve(self, remote_path: str) -> Path:
        """The absolute path that `remote_path` means: backslashes are slashes, `..` is resolved (docs/spec/services.md,
        "Paths of files").
        """
        if not remote_path.strip() or "\0" in remote_path:
            raise ArgumentError(f"The path {remote_path[:200]!r} is not in a form that can be used.")
        path = remote_path.replace("\\", "/")
        if not path.startswith("/"):
            if self._home is None:
                raise ArgumentError("The tentacle home directory has not been set.")
            path = f"{self._home}/{path}"
        # POSIX keeps a meaning of its own for two slashes at the beginning, and so does `normpath`.
        return Path("/", os.path.normpath(path).lstrip("/"))


def _place(source: Path | None, target: Path, length: int, parts: Parts) -> UploadResult:
    """Makes the content of `source` that of `target` in one step.

    On one file system that is a renaming, which needs no space: the stream had it when it arrived.  On another the
    file is first copied to a file beside the target.  `source` is None when there was no room for it.
    """
    try:
        # Files, and links to them, are replaced; a device or a pipe of that name stays what it is.
        if target.is_dir():
            raise FileError(f"{target} is a directory not a file")
        if target.exists() and not target.is_file():
            raise FileError(f"'{target}' is neither a file nor a directory.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source is None:
            require_free(target.parent, length)
            raise FileError(f"There was no room for the {length} bytes of {target} when they arrived.")
        digest = _finish(source)
        try:
            source.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            require_free(target.parent, length)
            with parts.beside(target) as part:
                shutil.copyfile(source, part)
                digest = _finish(part)
                part.replace(target)
    except OSError as error:
        raise _failed("write", target, error) from error
    return UploadResult(str(target), digest, length)


def _finish(part: Path) -> str:
    """Gives the file the mode of a new file and flushes it to the disk.  Returns its SHA-1 in lower-case hex."""
    with part.open("rb") as file:
        os.fchmod(file.fileno(), 0o666 & ~_umask())
        digest = hashlib.file_digest(file, "sha1").hexdigest()
        os.fsync(file.fileno())
    return digest


def _umask() -> int:
    """Returns the process's umask; it is read without setting it, since other threads create files too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


def _open(path: Path) -> tuple[BinaryIO, int] | None:
    """Returns the file and its length, or `None` when there is no such file or it is a directory
    (docs/spec/services.md, "Downloads").
    """
    try:
        # Looked at before it is opened: opening alone rewinds a tape, arms a watchdog, or waits for a pipe's writer.
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            return None
        raise _failed("read", path, error) from error
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            return None
        if not stat.S_ISREG(mode):
            raise FileError(f"'{path}' is neither a file nor a directory.")
        file = open(f"/proc/self/fd/{handle}", "rb")  # noqa: SIM115, PTH123 - closed by who sends it
        return file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _failed("read", path, error) from error
    finally:
        os.close(handle)


def _failed(doing: str, path: Path, error: OSError) -> ServiceError:
    """The error to answer with, in the original's words where it has any."""
    if isinstance(error, FileNotFoundError):
        return MissingFile(f"Could not find file '{error.filename or path}'.")
    if isinstance(error, FileExistsError):
        # A file where the path needs a directory.
        return FileError(f"The file '{error.filename or path}' already exists.")
    if isinstance(error, PermissionError):
        return AccessDenied(f"Access to the path '{path}' is denied.")
    return FileError(f"Could not {doing} the file '{path}': {error.strerror or type(error).__name__}")
