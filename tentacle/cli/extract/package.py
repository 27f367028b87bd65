"""The content of a NuGet package put into a directory: everything, or nothing and a reason in one line.

A package is a zip file that somebody else made.  Nothing of it gets outside the destination (no `..`, no link in the
package, no link that was there before), names are checked before anything is written, and sizes before the disk is
full.  Files are unpacked beside their places first and then renamed.  Must not know options or how a result is shown.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from tentacle.errors import TentacleError, one_line

LARGEST_TOTAL: Final = 64 * 1024**3
MOST_FILES: Final = 200_000
LONGEST_NAME: Final = 255
DEEPEST: Final = 64
MARGIN: Final = 16 * 1024**2
"""Bytes that are left free on the disk."""
_CHUNK: Final = 1024 * 1024
_STAGING: Final = ".extract-"
_BOOKKEEPING: Final = ("_rels/", "package/", "[content_types].xml", ".signature.p7s")
"""What belongs to the package and not to its content: NuGet's "Files" mode leaves it out, and the manifest."""


class PackageError(TentacleError):
    """A package that cannot be extracted."""


@dataclass(frozen=True)
class _File:
    info: zipfile.ZipInfo
    parts: tuple[str, ...]


def extract_package(package: Path, destination: Path) -> int:
    """Unpacks `package` into `destination`, which is made when missing; returns the number of files.

    Files of the same names are replaced, others stay.  Raises PackageError; the destination is then as it was, unless
    the system fails while files are being renamed.
    """
    try:
        with zipfile.ZipFile(package) as archive:
            files = _content(archive, package)
            with _destination(destination):
                _check_space(files, destination)
                _check_places(files, destination)
                _unpack(archive, files, destination)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        # RuntimeError is zipfile's word for an entry that needs a password.
        raise PackageError(
            f"The package '{package}' cannot be read: {_short(error)}.",
            hint="Is it a complete NuGet package (a zip file)?",
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        where = f" ({error.filename})" if error.filename else ""
        raise PackageError(f"The package cannot be extracted to '{destination}': {reason}{where}.") from None
    return len(files)


def _content(archive: zipfile.ZipFile, package: Path) -> list[_File]:
    """The files to unpack, each name checked; raises PackageError for the first that could do harm."""
    entries = archive.infolist()
    if len(entries) > MOST_FILES:
        raise PackageError(f"The package '{package}' has more than {MOST_FILES} entries.")
    found: dict[tuple[str, ...], _File] = {}
    for info in entries:
        name = _name(info)
        if name.endswith("/") or _is_bookkeeping(name):
            continue
        file = _File(info, _parts(name))
        _check_kind(info, name)
        if file.parts in found:
            raise PackageError(f"The package '{package}' holds the file '{_safe(name)}' twice.")
        found[file.parts] = file
    folders = {file.parts[:depth] for file in found.values() for depth in range(1, len(file.parts))}
    if clash := next(iter(folders & found.keys()), None):
        raise PackageError(f"In the package '{package}', '{_safe('/'.join(clash))}' is both a file and a directory.")
    total = sum(file.info.file_size for file in found.values())
    if total > LARGEST_TOTAL:
        raise PackageError(f"The package '{package}' would unpack to {total} bytes; the limit is {LARGEST_TOTAL}.")
    return list(found.values())


def _name(info: zipfile.ZipInfo) -> str:
    """The entry's name as a path with slashes; packages escape blanks and the like as in URLs."""
    name = info.orig_filename.replace("\\", "/")
    return unquote(name, errors="strict").replace("\\", "/") if "%" in name else name


def _is_bookkeeping(name: str) -> bool:
    lower = name.lower()
    return lower.startswith(_BOOKKEEPING) or ("/" not in lower and lower.endswith(".nuspec"))


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(name.split("/"))
    if any(part in ("", ".", "..") for part in parts):
        raise PackageError(f"The package's file name '{_safe(name)}' would leave the destination directory.")
    if not name.isprintable():
        raise PackageError(f"The package's file name '{_safe(name)}' holds control characters.")
    if len(parts) > DEEPEST or any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
        raise PackageError(f"The package's file name '{_safe(name)}' is too long.")
    return parts


def _check_kind(info: zipfile.ZipInfo, name: str) -> None:
    """Regular files only; entries made on other systems say nothing of their kind."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise PackageError(f"The package's entry '{_safe(name)}' is a link or a special file, which is not extracted.")


@contextlib.contextmanager
def _destination(path: Path) -> Iterator[None]:
    """The directory, made when missing; what was made goes again when the block fails."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    done = False
    try:
        yield
        done = True
    finally:
        for folder in missing if not done else ():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _check_space(files: Sequence[_File], destination: Path) -> None:
    needed = sum(file.info.file_size for file in files) + MARGIN
    free = shutil.disk_usage(destination).free
    if needed > free:
        raise PackageError(
            f"The package needs {needed} bytes in '{destination}', where {free} are free.", hint="Make room first."
        )


def _check_places(files: Sequence[_File], destination: Path) -> None:
    """Nothing is written through a link that lies in the destination, and no directory makes way for a file."""
    for folder in {file.parts[:depth] for file in files for depth in range(1, len(file.parts))}:
        place = destination.joinpath(*folder)
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise PackageError(f"'{_safe(str(place))}' is no directory, so nothing can be extracted into it.")
    for file in files:
        place = destination.joinpath(*file.parts)
        if place.is_dir() and not place.is_symlink():
            raise PackageError(f"'{_safe(str(place))}' is a directory; the package has a file of this name.")


def _unpack(archive: zipfile.ZipFile, files: Sequence[_File], destination: Path) -> None:
    with _shared(destination):
        staging = destination / f"{_STAGING}{secrets.token_hex(4)}.tmp"
        staging.mkdir(mode=0o700)
        try:
            for number, file in enumerate(files):
                _write(archive, file.info, staging / str(number))
            for number, file in enumerate(files):
                place = destination.joinpath(*file.parts)
                place.parent.mkdir(parents=True, exist_ok=True)
                (staging / str(number)).rename(place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _shared(destination: Path) -> Iterator[None]:
    """Removes what extractions that were killed have left, unless others go on; keeps the others from doing so."""
    descriptor = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # another one is at work, or the file system knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in destination.glob(f"{_STAGING}????????.tmp"):
                shutil.rmtree(left, ignore_errors=True)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    mode = 0o777 if (info.external_attr >> 16) & 0o111 else 0o666
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as target, archive.open(info) as source:
        shutil.copyfileobj(source, target, _CHUNK)
    with contextlib.suppress(ValueError, OverflowError):
        when = time.mktime((*info.date_time, 0, 0, -1))
        os.utime(path, (when, when))


def _short(error: Exception) -> str:
    return _safe(one_line(error).rstrip("."))


def _safe(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:200]}..."
