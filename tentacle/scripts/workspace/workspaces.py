"""The directories in which scripts run, `Work/TICKET`, and the files written there before a start.

Everything is written relative to open directories and never through a symbolic link, whatever exists there already.
The files of the run (`run_files.py`) are written last: only then there is a run.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from tentacle import disk
from tentacle.errors import EXIT_USER_ERROR
from tentacle.late_imports import LateModule
from tentacle.records import dataclass
from tentacle.scripts.errors import ScriptError, WorkspaceNotPreparedError
from tentacle.scripts.shim.file_flags import free_path
from tentacle.scripts.workspace.batch_sync import BatchSync
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.run_directory import RunDirectory
from tentacle.scripts.workspace.run_files import RunFiles
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.validation import LOG_FILE, SCRIPT_FILE, file_parts

if TYPE_CHECKING:
    import shutil

    from tentacle.scripts.workspace import file_encryption
else:  # archives, and ciphers
    shutil = LateModule("shutil")
    file_encryption = LateModule("tentacle.scripts.workspace.file_encryption")

log = logging.getLogger(__name__)

FOR_A_SCRIPT = 500 * 1024 * 1024
"""Bytes that a script may need, before the margin."""
_TRASH = ".trash-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


@dataclass(frozen=True)
class WorkspaceFile:
    """A file for the workspace.  `source` is moved there; with a password, even an empty one, it is encrypted."""

    name: str
    source: Path
    password: str | None = field(default=None, repr=False)


class Workspaces:
    """All workspaces below one directory, and the runs that belong to them."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.runs = RunDirectory(work)
        self._sync = BatchSync(self.runs.path)

    def ensure(self) -> None:
        """Makes the directories when they are missing, and moves aside what is there instead; raises `ScriptError`."""
        try:
            make_way(self.work)
            self.work.mkdir(parents=True, exist_ok=True)
            free_path(self.work)
            disk.restore_rights(self.work)
        except OSError as error:
            raise ScriptError(
                f"The directory for workspaces cannot be made: {_reason(error)}",
                hint="Move away what is there, mount what it leads to, or give the agent's user the right to make it; "
                "then start the agent again.",
                exit_code=EXIT_USER_ERROR,
            ) from error
        self.runs.ensure()

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """Yields everything in the directory, one at a time: a script may have put more there than fits into memory."""
        try:
            with os.scandir(self.work) as entries:
                yield from entries
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise

    def directories(self) -> Iterator[Path]:
        """Yields what may be a workspace: real directories whose names may be tickets."""
        return (Path(entry.path) for entry in self.entries() if is_workspace(entry))

    def find(self, ticket: str) -> Path | None:
        """Returns the directory of `ticket`, if there is one."""
        path = self.work / ticket
        try:
            return path if stat.S_ISDIR(path.lstat().st_mode) else None
        except OSError:
            return None

    def prepare(self, header: RunHeader, body: str, files: Sequence[WorkspaceFile]) -> RunFiles:
        """Makes the workspace, everything in it, and the run.

        The file names must be valid.  The run may start once it is synced (`make`).  Raises `ScriptError`, and leaves
        nothing of a new workspace then.
        """
        path = self.work / header.ticket
        existed = self._make(path)
        try:
            root = os.open(path, _DIRECTORY)
            try:
                script = _create(root, SCRIPT_FILE)
                try:
                    disk.write_all(script, body.replace("\r\n", "\n").encode("utf-8", "replace"))
                finally:
                    os.close(script)
                for wanted in files:
                    _put(root, wanted)
            finally:
                os.close(root)
            # The first entries of the log (docs/spec/services.md, "Log entries around a script"); all on standard
            # output.
            level = "FullIsolation" if header.wants.exclusive else "NoIsolation"
            acquiring = f"Acquiring isolation mutex {header.mutex} with {level} in {header.task}"
            opening = ("##octopus[stdout-verbose]", acquiring, "##octopus[stdout-default]")
            try:
                return self.runs.create(header, opening)
            except FileNotFoundError:
                # A script has removed the directory of all runs.
                self.runs.ensure()
                return self.runs.create(header, opening)
        except OSError as error:
            if not existed:
                self.remove(path)
            raise WorkspaceNotPreparedError(path, _reason(error)) from error

    def _make(self, path: Path) -> bool:
        """Makes the directory of a workspace; returns whether there was one already."""
        for attempt in range(2):
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:
                return True
            except (FileNotFoundError, NotADirectoryError) as error:
                # The directory of all workspaces was removed, or something lies in its place.
                if attempt:
                    raise WorkspaceNotPreparedError(path, _reason(error)) from error
                self.ensure()
            except OSError as error:
                self.ensure()
                raise WorkspaceNotPreparedError(path, _reason(error)) from error
            else:
                return False
        return False

    async def make(self, prepare: Callable[[], RunFiles]) -> RunFiles:
        """Calls `prepare` and syncs its run, so that it survives a power cut: in a thread, for all that wait together.

        Raises `ScriptError`, and what `prepare` raises.
        """
        return await self._sync.make(prepare)

    async def aclose(self) -> None:
        """Waits for the runs that are being made."""
        await self._sync.aclose()

    def touch(self, path: Path) -> None:
        """Touches the script's file, by whose age a foreign sweeper judges a workspace."""
        with contextlib.suppress(OSError):
            root = os.open(path, _DIRECTORY)
            try:
                # A script may have replaced it by a symbolic link, or by a hard link to a file outside.
                script = os.open(SCRIPT_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=root)
            finally:
                os.close(root)
            try:
                found = os.fstat(script)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                    os.utime(script)
            finally:
                os.close(script)

    def changed(self, path: Path) -> float | None:
        """Returns the last sign of life of a script in a foreign directory, in seconds since 1970.

        `None` for a directory in which no script has run.
        """
        for name in (LOG_FILE, SCRIPT_FILE):
            with contextlib.suppress(OSError):
                return (path / name).lstat().st_mtime
        return None

    def move_to_trash(self, path: Path) -> Path | None:
        """Renames a workspace, so that its name is free at once; returns the directory that the caller must remove.

        `None` when there is no such workspace; `path` itself where it cannot be renamed.
        """
        trash = self.work / f"{_TRASH}{secrets.token_hex(8)}"
        try:
            path.rename(trash)
        except FileNotFoundError:
            return None
        except OSError:
            if not free_path(path):
                return path
            # Once: something may set the flags again and again.
            with contextlib.suppress(OSError):
                path.rename(trash)
                return trash
            return path
        return trash

    def forget(self, name: str, workspace: Path) -> list[Path]:
        """Removes everything of a run, its `.run` file last; returns the directories that the caller must remove.

        A directory in place of one of the files goes too.  Raises `OSError`.
        """
        left = [workspace if workspace.name.startswith(_TRASH) else self.move_to_trash(workspace)]
        for path in self.runs.paths(name):
            try:
                _unlink(path)
            except (IsADirectoryError, PermissionError):
                left.append(self.move_to_trash(path))
        return [path for path in left if path is not None]

    def remove(self, path: Path) -> bool:
        """Removes a workspace with everything in it; returns whether it is gone.  Follows no symbolic link."""
        left = self.move_to_trash(path)
        return left is None or remove_tree(left)

    def trash(self) -> Iterator[Path]:
        """Yields the directories in the trash, also those of an earlier agent."""
        return (Path(entry.path) for entry in self.entries() if entry.name.startswith(_TRASH))


def place_of(work: Path) -> Path:
    """Where the directory of all workspaces is, without links; itself where it is no directory, or leads to none.

    Raises `DiskError` for a link that must not be followed: of another user, who could lead root anywhere.
    """
    place = disk.behind_links(work.parent) / work.name
    return disk.behind_links(place) if disk.is_directory(place) else place


def make_way(path: Path) -> None:
    """Moves aside what scripts have put in place of a directory of the agent's.

    A link that leads nowhere stays, for its disk may not be mounted.  Raises `OSError` for that, and for any other link
    that is left.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        return
    # The second look raises where a link leads nowhere, or in a circle.
    if stat.S_ISLNK(found.st_mode) and stat.S_ISDIR(path.stat().st_mode):
        raise OSError(errno.ELOOP, "It is a link that is not followed", str(path))
    log.warning("'%s' was no directory; what was there is now called '%s'", path, disk.move_aside(path))


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        if not free_path(path):
            raise
        path.unlink(missing_ok=True)


def is_workspace(entry: os.DirEntry[str]) -> bool:
    """Returns whether that entry of the work directory may be a workspace."""
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)


def _create(directory: int, name: str) -> int:
    """Returns an open new file; replaces a file of that name."""
    try:
        return os.open(name, _FRESH, 0o600, dir_fd=directory)
    except FileExistsError:
        os.unlink(name, dir_fd=directory)
        return os.open(name, _FRESH, 0o600, dir_fd=directory)


def _put(root: int, file: WorkspaceFile) -> None:
    *directories, name = file_parts(file.name)
    directory = os.dup(root)
    try:
        for part in directories:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=directory)
            inner = os.open(part, _DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = inner
        if file.password is None:
            _move(file.source, directory, name)
        else:
            with file.source.open("rb") as source, os.fdopen(_create(directory, name), "wb") as target:
                file_encryption.encrypt(source, target, file.password)
    finally:
        os.close(directory)


def _move(source: Path, directory: int, name: str) -> None:
    try:
        os.rename(source, name, dst_dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with source.open("rb") as reader, os.fdopen(_create(directory, name), "wb") as writer:
            shutil.copyfileobj(reader, writer, 1024 * 1024)
        source.unlink()


def _reason(error: OSError) -> str:
    return f"{error.strerror}: '{error.filename}'" if error.filename else str(error)
