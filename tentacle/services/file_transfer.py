"""Files up and down (docs/spec/services.md, "File transfer").

A path is used as the server gives it: absolute, or relative to the agent's home.  A server that may run scripts may
write files; what is protected here is the host against accidents, and what scripts must not reach against their links:
an upload appears whole or not at all, and both ways are walked once, by open directories.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import UUID, uuid4

from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.file_transfer import UploadResult
from tentacle.disk import require_free
from tentacle.errors import TentacleError
from tentacle.path_walk import LinkRefused, Place, Trust, end_of, parent_of
from tentacle.scripts.shim.small_files import read_file
from tentacle.services.dispatch import Files, Outgoing, ServiceMethod
from tentacle.services.errors import AccessDenied, ArgumentError, FileError, MissingFile, NotAFile, ServiceError
from tentacle.services.parts import Parts
from tentacle.services.veto import TransferRoots

_NO_SUCH_FILE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP))
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_SMALL = 256 * 1024
"""Bytes.  The length of a file up to this size is not believed: files of `/proc` and `/sys` say 0, or 4096."""
_LONGEST_SPOOLED = 64 * 1024 * 1024
"""Bytes that are read, without a length that is believed, before a file counts as endless."""
_PROC = Path("/proc")
_UMASK = re.compile(rb"^Umask:\s+([0-7]+)$", re.MULTILINE)


class FileTransferService:
    """`home` is where relative paths begin; `None` when the instance has none.  `parts` are files half written.

    `trust` says which links are followed; without it all are.  `written` is called in a thread with the path of each
    file that has been written.  `roots` are where files may be written and read.  `digest_of` knows the SHA-1, in
    lower-case hex, of a file that was hashed while it arrived.
    """

    name = "IFileTransferService"
    implementation = "Octopus.Tentacle.Core.Services.FileTransfer.FileTransferService"

    def __init__(
        self,
        home: Path | None,
        parts: Parts | None = None,
        trust: Trust | None = None,
        written: Callable[[Path], None] = lambda _: None,
        roots: TransferRoots | None = None,
        digest_of: Callable[[Path], str | None] = lambda _: None,
    ) -> None:
        self._home = home
        self._written = written
        self._parts = parts or Parts(None)
        self._trust = trust or Trust()
        self._roots = roots or TransferRoots()
        self._digest_of = digest_of

    @property
    def methods(self) -> Mapping[str, ServiceMethod]:
        return {"UploadFile": self._upload, "DownloadFile": self._download}

    async def _upload(self, arguments: tuple[Any, ...], files: Files) -> Outgoing:
        remote_path, stream = arguments
        target = absolute(self._home, remote_path)
        if stream is None:
            return Outgoing(UploadResult(str(target), None, 0))
        return await asyncio.to_thread(self._place, files.get(stream.id), target, stream.length)

    async def _download(self, arguments: tuple[Any, ...], _files: Files) -> Outgoing:
        opened = await asyncio.to_thread(self._open, absolute(self._home, arguments[0]))
        if opened is None:
            return Outgoing(None)
        file, length = opened
        identity: UUID = uuid4()
        return Outgoing(DataStream(identity, length), {identity: file})

    def _place(self, source: Path | None, target: str, length: int) -> Outgoing:
        """Makes the content of `source` that of `target` in one step; `None` when there was no room for it."""
        try:
            if target.endswith("/"):
                # It can only be a directory, and one is not made for a file that has no name.
                with end_of(target.rstrip("/") or "/", self._trust) as place:
                    raise _no_file(target, place.status())
            with parent_of(target, self._trust, self._make_directory) as place:
                self._roots.require_upload(place.directory)
                place.require_writable()
                # Files, and links to them, are replaced; a device or a pipe of that name stays what it is.
                found = self._found(target, place)
                if found is not None and not stat.S_ISREG(found.st_mode):
                    raise _no_file(target, found)
                known = None if source is None else self._digest_of(source)
                digest = _put(source, place, length, self._parts, known)
                self._written(place.path)
        except OSError as error:
            raise _failed("write", target, error) from error
        return Outgoing(UploadResult(target, digest, length), created=found is None)

    def _make_directory(self, inside: int, name: str) -> int:
        self._roots.require_upload(inside)
        with suppress(FileExistsError):  # another upload was faster
            os.mkdir(name, dir_fd=inside)
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)

    def _found(self, target: str, place: Place) -> os.stat_result | None:
        """What is at the path, also behind a link; `None` for nothing, and for links that lead to nothing."""
        try:
            found = place.status()
            if found is None or not stat.S_ISLNK(found.st_mode):
                return found
            with end_of(target, self._trust) as end:
                return end.status()
        except OSError:
            return None

    def _open(self, path: str) -> tuple[BinaryIO, int] | None:
        """Returns the file and the number of bytes to send, or `None` when there is no such file or it is a directory
        (docs/spec/services.md, "Downloads").
        """
        try:
            self._roots.require_readable(path)
            with end_of(path.rstrip("/") or "/", self._trust) as place:
                self._roots.require_download(place)
                found = place.status()
                if found is None or stat.S_ISDIR(found.st_mode):
                    return None
                # Looked at before it is opened: opening alone rewinds a tape, or arms a watchdog.
                if path.endswith("/") or not stat.S_ISREG(found.st_mode):
                    raise _no_file(path, found)
                place.require_readable(found)
                with ExitStack() as undo:
                    file = undo.enter_context(os.fdopen(place.open(_READ), "rb"))
                    if not os.path.samestat(found, os.fstat(file.fileno())):
                        raise FileError(f"The file {_quoted(path)} was replaced by another one while it was opened.")
                    sent, length = _with_length(path, file)
                    if sent is file:
                        undo.pop_all()
                    return sent, length
        except LinkRefused as error:
            raise _failed("read", path, error) from error
        except OSError as error:
            if error.errno in _NO_SUCH_FILE:
                return None
            raise _failed("read", path, error) from error


def absolute(home: Path | None, remote_path: str) -> str:
    """The absolute path that `remote_path` means: backslashes are slashes, `..` is resolved, a slash at the end
    stays (docs/spec/services.md, "Paths of files").
    """
    path = remote_path.replace("\\", "/")
    if not path.strip() or "\0" in path or not _is_text(path):
        raise ArgumentError(f"The path {remote_path[:200]!r} is not in a form that can be used.")
    if not path.startswith("/"):
        if home is None:
            raise ArgumentError("The tentacle home directory has not been set.")
        path = f"{home}/{path}"
    # POSIX keeps a meaning of its own for two slashes at the beginning, and so does `normpath`.
    plain = "/" + os.path.normpath(path).lstrip("/")
    is_directory = path.rpartition("/")[2] in ("", ".", "..")
    return f"{plain}/" if is_directory and plain != "/" else plain


def upload_check(home: Path | None, roots: TransferRoots) -> Callable[[str], None]:
    """What raises `RefusedByPolicy` for a path, as `UploadFile` gets it, where no file may be written."""
    return lambda path: roots.require_writable(absolute(home, path))


def _put(source: Path | None, place: Place, length: int, parts: Parts, digest: str | None) -> str:
    """Moves `source` to a place, and returns its SHA-1 in lower-case hex, which may be known.

    On one file system that is a renaming, which needs no space: the stream had it when it arrived.  On another the
    file is first copied to a file beside the target.
    """
    if source is None:
        require_free(place.path.parent, length)
        raise FileError(f"There was no room for the {length} bytes of {place.path} when they arrived.")
    with open(source, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW)) as file:
        digest = _finish(file, digest)
        try:
            os.rename(source, place.name, dst_dir_fd=place.directory)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            require_free(place.path.parent, length)
            with parts.beside(place) as part:
                file.seek(0)
                shutil.copyfileobj(file, part.file, 1024 * 1024)
                part.file.flush()
                part.file.seek(0)
                digest = _finish(part.file, None)
                _require_same(part.file, part.name, place)
                os.rename(part.name, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
                # Who owns the directory may have been faster than the renaming.
                _require_same(part.file, place.name, place)
    return digest


def _require_same(copy: BinaryIO, name: str, place: Place) -> None:
    """Raises `FileError` where another file than the open one has the name."""
    kept = os.stat(name, dir_fd=place.directory, follow_symlinks=False)
    if not os.path.samestat(kept, os.fstat(copy.fileno())):
        raise FileError(f"The copy for '{place.path}' was replaced while it was being written.") from None


def _finish(file: BinaryIO, digest: str | None) -> str:
    """Gives the open file the mode of a new file and flushes it to the disk.

    Returns its SHA-1 in lower-case hex: `digest`, where that is known.
    """
    os.fchmod(file.fileno(), 0o666 & ~_umask())
    digest = digest or hashlib.file_digest(file, "sha1").hexdigest()  # type: ignore[arg-type]  # a file will do
    os.fsync(file.fileno())
    return digest


def _umask() -> int:
    """Returns the process's umask; it is read without setting it, since other threads create files too."""
    found = _UMASK.search(read_file("/proc/self/status"))
    return 0o022 if found is None else int(found[1], 8)


def _with_length(path: str, file: BinaryIO) -> tuple[BinaryIO, int]:
    """Returns an open file whose length can be announced, and that length.  Raises `OSError`.

    A file is sent as it is, when it is large; one that is small, or of `/proc`, is read first.
    """
    found = os.fstat(file.fileno())
    if found.st_size > _SMALL and not _is_of_proc(found):
        # What cannot be read at all is better said now than by a connection that breaks.
        os.pread(file.fileno(), 1, 0)
        return file, found.st_size
    with ExitStack() as undo:
        spooled = undo.enter_context(tempfile.SpooledTemporaryFile(_SMALL))
        length = 0
        while piece := os.read(file.fileno(), _SMALL):
            length += spooled.write(piece)
            if length > _LONGEST_SPOOLED:
                raise FileError(f"The file {_quoted(path)} has no length and does not end.")
        spooled.seek(0)
        undo.pop_all()
    return cast(BinaryIO, spooled), length


def _is_of_proc(found: os.stat_result) -> bool:
    with suppress(OSError):
        return found.st_dev == _PROC.stat().st_dev
    return False


def _is_text(path: str) -> bool:
    """Whether a path can be a file's name: half a character has no bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(path: str) -> str:
    """The path for a message of one line."""
    return f"'{path}'" if path.isprintable() else repr(path)


def _no_file(path: str, found: os.stat_result | None) -> TentacleError:
    """Why what was found cannot be the file of that path."""
    if found is None or stat.S_ISDIR(found.st_mode):
        return NotAFile(f"{path if found is None else path.rstrip('/') or '/'} is a directory not a file")
    if path.endswith("/") and stat.S_ISREG(found.st_mode):
        return NotAFile(f"{_quoted(path)} names a directory, but '{path.rstrip('/')}' is a file.")
    return NotAFile(f"{_quoted(path)} is neither a file nor a directory.")


def _failed(doing: str, path: str, error: OSError) -> ServiceError:
    """The error to answer with, in the original's words where it has any."""
    if isinstance(error, LinkRefused):
        return AccessDenied(f"Access to the path {_quoted(path)} is denied. {error.strerror}.")
    if isinstance(error, FileNotFoundError):
        return MissingFile(f"Could not find file '{error.filename or path}'.")
    if isinstance(error, NotADirectoryError) and error.filename == path.rpartition("/")[0]:
        # A file where the path needs a directory.
        return NotAFile(f"The file '{error.filename}' already exists.")
    if isinstance(error, PermissionError):
        return AccessDenied(f"Access to the path {_quoted(path)} is denied.")
    return FileError(f"Could not {doing} the file {_quoted(path)}: {error.strerror or type(error).__name__}")
