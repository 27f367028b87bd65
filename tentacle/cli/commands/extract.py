"""`extract`: the content of a NuGet package put into a directory (docs/spec/command-line.md, "extract"): everything, or
nothing.

A package is a zip file that somebody else made.  Nothing of it gets outside the destination (no `..`, no link in the
package, no link that was there before), names are checked before anything is written, and sizes before the disk is
full.  Files are unpacked beside their places first and then renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import os
import secrets
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from tentacle.cli.frame.command import command, option, order_given
from tentacle.cli.frame.options import json_option
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession
from tentacle.errors import TentacleError, one_line
from tentacle.path_walk import end_of, wary_root
from tentacle.records import dataclass

LARGEST_TOTAL: Final = 64 * 1024**3
MOST_FILES: Final = 200_000
LONGEST_NAME: Final = 255
DEEPEST: Final = 64
MARGIN: Final = 16 * 1024**2
"""Bytes that are left free on the disk."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 1024 * 1024
_STAGING: Final = ".extract-"
_BOOKKEEPING: Final = ("_rels/", "package/", "[content_types].xml", ".signature.p7s")
"""Files about the package, which NuGet's "Files" mode leaves out, as it does the manifest."""


class PackageError(TentacleError):
    """A package that cannot be extracted."""


@dataclass(frozen=True)
class _File:
    info: zipfile.ZipInfo
    parts: tuple[str, ...]


@command("extract")
@option("--package", help="Package file")
@option("--destination", help="Destination directory")
@json_option
def extract(session: CommandSession, *, package: str | None, destination: str | None) -> Steps:
    """Shows both paths in the order given.  Unlike the original it does not try again after a failure."""
    paths = {
        name: Path(os.path.normpath(session.path(given or "")))
        for name, given in (("package", package), ("destination", destination))
    }
    for name in (name for name in dict.fromkeys(order_given()) if name in paths):
        yield f"{name.capitalize()}: {paths[name]}"
        if name == "package" and paths[name].is_dir():
            raise TentacleError(f"The package '{paths[name]}' is a directory.", hint="Name the package's file.")
        if name == "package" and not paths[name].is_file():
            raise TentacleError(f"Package not found: {paths[name]}")
    if not package:
        also = None if destination else "--destination is missing, too."
        raise TentacleError("Please specify the package to extract via the --package argument.", hint=also)
    if not destination:
        raise TentacleError("Please specify the destination directory via the --destination argument.")
    count = extract_package(paths["package"], paths["destination"])
    yield f"{count:,} files extracted"
    return CommandResult(document={"Destination": str(paths["destination"]), "Files": count})


def extract_package(package: Path, destination: Path) -> int:
    """Unpacks `package` into `destination`, which is made when missing; returns the number of files.

    Files of the same names are replaced, others stay.  Raises PackageError; the destination is then as it was, unless
    the system fails while files are being renamed.
    """
    try:
        with zipfile.ZipFile(package) as archive:
            files = _checked_files(archive, package)
            with _made_directory(destination), _opened(destination) as directory:
                needed, free = sum(one.info.file_size for one in files) + MARGIN, shutil.disk_usage(directory).free
                if needed > free:
                    message = f"The package needs {needed} bytes in '{destination}', where {free} are free."
                    raise PackageError(message, hint="Make room first.")
                _check_places(files, destination)
                _unpack(archive, files, directory)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        # RuntimeError is zipfile's word for an entry that needs a password.
        raise PackageError(
            f"The package '{package}' cannot be read: {_short(one_line(error).rstrip('.'))}.",
            hint="Is it a complete NuGet package (a zip file)?",
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        where = f" ({error.filename})" if error.filename else ""
        raise PackageError(f"The package cannot be extracted to '{destination}': {reason}{where}.") from None
    return len(files)


def _checked_files(archive: zipfile.ZipFile, package: Path) -> list[_File]:
    """The files to unpack, each name checked; raises PackageError for the first that could do harm."""
    entries = archive.infolist()
    if len(entries) > MOST_FILES:
        raise PackageError(f"The package '{package}' has more than {MOST_FILES} entries.")
    found: dict[tuple[str, ...], _File] = {}
    for info in entries:
        name = info.orig_filename.replace("\\", "/")
        if "%" in name:  # packages escape blanks and the like as in URLs
            name = unquote(name, errors="strict").replace("\\", "/")
        lower = name.lower()
        is_manifest = "/" not in lower and lower.endswith(".nuspec")
        if name.endswith("/") or is_manifest or lower.startswith(_BOOKKEEPING):
            continue
        file = _File(info, _checked_parts(name))
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):  # other systems do not say what it is
            raise PackageError(
                f"The package's entry '{_short(name)}' is a link or a special file, which is not extracted."
            )
        if file.parts in found:
            raise PackageError(f"The package '{package}' holds the file '{_short(name)}' twice.")
        found[file.parts] = file
    if clash := next(iter(_folders_of(found.values()) & found.keys()), None):
        raise PackageError(f"In the package '{package}', '{_short('/'.join(clash))}' is both a file and a directory.")
    total = sum(file.info.file_size for file in found.values())
    if total > LARGEST_TOTAL:
        raise PackageError(f"The package '{package}' would unpack to {total} bytes; the limit is {LARGEST_TOTAL}.")
    return list(found.values())


def _checked_parts(name: str) -> tuple[str, ...]:
    parts = tuple(name.split("/"))
    if any(part in ("", ".", "..") for part in parts):
        raise PackageError(f"The package's file name '{_short(name)}' would leave the destination directory.")
    if not name.isprintable():
        raise PackageError(f"The package's file name '{_short(name)}' holds control characters.")
    if len(parts) > DEEPEST or any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
        raise PackageError(f"The package's file name '{_short(name)}' is too long.")
    return parts


def _folders_of(files: Iterable[_File]) -> set[tuple[str, ...]]:
    return {file.parts[:depth] for file in files for depth in range(1, len(file.parts))}


@contextlib.contextmanager
def _made_directory(path: Path) -> Iterator[None]:
    """Makes the directory when it is missing; what was made goes again when the block fails."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    with end_of(path, wary_root(), _make_directory) as place:
        if place.status() is None:
            place.require_writable()
            os.close(_make_directory(place.directory, place.name))
    done = False
    try:
        yield
        done = True
    finally:
        for folder in missing if not done else ():
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The open directory: root does not go by links of others to where these may not write."""
    with end_of(path, wary_root()) as place:
        place.require_writable()
        directory = place.open(_DIRECTORY)
        try:
            yield directory
        finally:
            os.close(directory)


@contextlib.contextmanager
def _folder(directory: int, parts: Sequence[str]) -> Iterator[int]:
    """The open directory below `directory`, made when it is missing, by a way without links.  Raises `OSError`."""
    folder = os.dup(directory)
    try:
        for part in parts:
            inner = _make_directory(folder, part)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _make_directory(inside: int, name: str) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=inside)
    return os.open(name, _DIRECTORY, dir_fd=inside)


def _check_places(files: Sequence[_File], destination: Path) -> None:
    """Nothing is written through a link that lies in the destination, and no directory makes way for a file."""
    for folder in _folders_of(files):
        place = destination.joinpath(*folder)
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise PackageError(f"'{_short(str(place))}' is no directory, so nothing can be extracted into it.")
    for file in files:
        place = destination.joinpath(*file.parts)
        if place.is_dir() and not place.is_symlink():
            raise PackageError(f"'{_short(str(place))}' is a directory; the package has a file of this name.")


def _unpack(archive: zipfile.ZipFile, files: Sequence[_File], destination: int) -> None:
    with _staging_directory(destination) as staging:
        for number, file in enumerate(files):
            mode = 0o777 if (file.info.external_attr >> 16) & 0o111 else 0o666
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(str(number), flags, mode, dir_fd=staging)
            with os.fdopen(descriptor, "wb") as target, archive.open(file.info) as source:
                shutil.copyfileobj(source, target, _CHUNK)
            with contextlib.suppress(ValueError, OverflowError):
                when = time.mktime((*file.info.date_time, 0, 0, -1))
                os.utime(str(number), (when, when), dir_fd=staging)
        for number, file in enumerate(files):
            with _folder(destination, file.parts[:-1]) as folder:
                os.rename(str(number), file.parts[-1], src_dir_fd=staging, dst_dir_fd=folder)


@contextlib.contextmanager
def _staging_directory(destination: int) -> Iterator[int]:
    """An open directory in the destination to unpack into, removed at the end.

    What extractions that were killed have left is removed, unless another one is at work there: each holds a shared
    lock of the destination, and only an exclusive one allows the removal.
    """
    descriptor = os.open(".", _DIRECTORY, dir_fd=destination)
    name = f"{_STAGING}{secrets.token_hex(4)}.tmp"
    try:
        with contextlib.suppress(OSError):  # another one is at work, or the file system knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with os.scandir(descriptor) as entries:
                left = fnmatch.filter((entry.name for entry in entries), f"{_STAGING}????????.tmp")
            for name_left in left:
                shutil.rmtree(name_left, ignore_errors=True, dir_fd=descriptor)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.mkdir(name, 0o700, dir_fd=descriptor)
        staging = os.open(name, _DIRECTORY, dir_fd=descriptor)
        try:
            yield staging
        finally:
            os.close(staging)
            shutil.rmtree(name, ignore_errors=True, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."
