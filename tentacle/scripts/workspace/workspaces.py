"""The directories in which scripts run, `{home}/Work/{ticket}`, and what is put there before a start.

Everything is written relative to open directories and never through a symbolic link, whatever may lie there already.
The settings of the run come last and are synced: a directory without them is not a run, one with them will be.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tentacle.scripts.errors import ScriptError
from tentacle.scripts.shim import run_state
from tentacle.scripts.shim.log_format import OUT_ENTRY, frame
from tentacle.scripts.shim.log_writer import now_ms
from tentacle.scripts.workspace.batch_sync import Settling
from tentacle.scripts.workspace.file_encryption import encrypt
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.run_files import LOG_FILE, SCRIPT_FILE, RunFiles, RunSettings, opening
from tentacle.scripts.workspace.validation import file_parts, fold

_TRASH = ".trash-"
_PREPARING = "preparing"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


@dataclass(frozen=True)
class WorkspaceFile:
    """A file for the workspace.  `source` is moved there, or read when it has a password, even an empty one."""

    name: str
    source: Path
    password: str | None = field(default=None, repr=False)


class Workspaces:
    """All workspaces below one directory."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self._settling = Settling()
        self._names: dict[str, str] = {}
        """Directory names by folded ticket: two tickets that differ by case are one run."""

    def scan(self) -> list[Path]:
        """Makes the directory when it is missing, and finds the workspaces that are there."""
        self.ensure()
        found = self.directories()
        self._names = {fold(path.name): path.name for path in found}
        return found

    def ensure(self) -> None:
        """Makes the directory when it is missing; raises `ScriptError`."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ScriptError(f"The directory for workspaces cannot be made: {_reason(error)}") from error

    def directories(self) -> list[Path]:
        """What may be workspaces: real directories whose names may be tickets; none when somebody has removed all."""
        try:
            with os.scandir(self.work) as entries:
                return [Path(entry.path) for entry in entries if _is_workspace(entry)]
        except FileNotFoundError:
            return []

    def find(self, ticket: str) -> Path | None:
        """The directory of `ticket`, whatever the case it was first written in."""
        name = self._names.get(fold(ticket), ticket)
        path = self.work / name
        try:
            return path if stat.S_ISDIR(path.lstat().st_mode) else None
        except OSError:
            return None

    def prepare(self, settings: RunSettings, body: str, files: Sequence[WorkspaceFile]) -> RunFiles:
        """Makes the workspace and everything in it; after a `sync` the run may start at any time.

        Names must have been checked.  On failure nothing of a new workspace is left; raises `ScriptError`.
        """
        path = self.find(settings.ticket) or self.work / settings.ticket
        existed = path.exists()
        try:
            _fill(path, settings, body, files)
            self._names[fold(settings.ticket)] = path.name
            return RunFiles(path)
        except OSError as error:
            if not existed:
                self.remove(path)
            raise ScriptError(f"The workspace '{path}' could not be prepared: {_reason(error)}") from error

    async def sync(self, files: RunFiles) -> None:
        """From the return on this is a run even if the machine goes down.  If that fails it is none; `ScriptError`."""
        try:
            await self._settling.settle(files.sync)
        except OSError as error:
            files.withdraw()
            raise ScriptError(f"The workspace '{files.workspace}' could not be prepared: {_reason(error)}") from error

    async def aclose(self) -> None:
        """Waits for what is being synced, whoever still wants it."""
        await self._settling.aclose()

    def put_away(self, path: Path) -> Path | None:
        """Takes a workspace out of the way, so that its ticket is free at once; gives what must then be removed.

        `None` when there is nothing of it; itself where it cannot be moved.
        """
        if self._names.get(fold(path.name)) == path.name:
            del self._names[fold(path.name)]
        trash = self.work / f"{_TRASH}{secrets.token_hex(8)}"
        try:
            path.rename(trash)
        except FileNotFoundError:
            return None
        except OSError:
            return path
        return trash

    def remove(self, path: Path) -> bool:
        """Removes a workspace with everything in it; true when it is gone.  Follows no symbolic link."""
        left = self.put_away(path)
        return left is None or remove_tree(left)

    def trash(self) -> Iterator[Path]:
        """What an agent that died while it removed workspaces has left."""
        yield from self.work.glob(f"{_TRASH}*")


def _is_workspace(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")


def _fill(path: Path, settings: RunSettings, body: str, files: Sequence[WorkspaceFile]) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    root = os.open(path, _DIRECTORY)
    try:
        state = _fresh_state(root)
        try:
            _write(root, SCRIPT_FILE, body.replace("\r\n", "\n").encode("utf-8", "replace"))
            now = now_ms()
            _write(root, LOG_FILE, b"".join(frame(OUT_ENTRY, now, line.encode()) for line in opening(settings)))
            for file in files:
                _put(root, file)
            _reserve_result(state)
            _write_settings(state, settings)
        finally:
            os.close(state)
    finally:
        os.close(root)


def _fresh_state(root: int) -> int:
    """The open state directory, empty, whatever an agent that died in the middle of this has left."""
    try:
        os.mkdir(run_state.STATE, 0o700, dir_fd=root)
    except FileExistsError:
        state = os.open(run_state.STATE, _DIRECTORY, dir_fd=root)
        for name in os.listdir(state):  # noqa: PTH208 - of a descriptor
            os.unlink(name, dir_fd=state)
        return state
    return os.open(run_state.STATE, _DIRECTORY, dir_fd=root)


def _create(directory: int, name: str) -> int:
    """A new file in place of whatever had the name."""
    try:
        return os.open(name, _FRESH, 0o600, dir_fd=directory)
    except FileExistsError:
        os.unlink(name, dir_fd=directory)
        return os.open(name, _FRESH, 0o600, dir_fd=directory)


def _write(directory: int, name: str, data: bytes) -> None:
    with os.fdopen(_create(directory, name), "wb") as file:
        file.write(data)


def _write_settings(state: int, settings: RunSettings) -> None:
    """From the renaming on this is a run."""
    with os.fdopen(_create(state, _PREPARING), "wb") as file:
        file.write(settings.encode())
        file.flush()
        os.rename(_PREPARING, run_state.PREPARED, src_dir_fd=state, dst_dir_fd=state)


def _reserve_result(state: int) -> None:
    descriptor = _create(state, run_state.RESULT)
    try:
        run_state.reserve_result(descriptor)
    finally:
        os.close(descriptor)


def _put(root: int, file: WorkspaceFile) -> None:
    *directories, name = file_parts(file.name)
    directory = os.dup(root)
    try:
        for part in directories:
            directory = _enter(directory, part)
        if file.password is None:
            _move(file.source, directory, name)
        else:
            with file.source.open("rb") as source, os.fdopen(_create(directory, name), "wb") as target:
                encrypt(source, target, file.password)
    finally:
        os.close(directory)


def _enter(directory: int, part: str) -> int:
    """The open sub-directory, made when it is missing; closes `directory`."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, 0o700, dir_fd=directory)
    inner = os.open(part, _DIRECTORY, dir_fd=directory)
    os.close(directory)
    return inner


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
