"""`Work/.runs`, the directory of the files of all runs: makes it, and makes, finds and reads the files there.

It lies outside the workspaces, where a script does not come by accident.  Nothing read here is trusted in size, depth,
type or time, since another process of the same user may have written it.  The form of the files is in
docs/spec/run-files.md, "The run file" and "The log file".
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from tentacle import disk
from tentacle.errors import EXIT_USER_ERROR, one_line
from tentacle.home_layout import RUNS
from tentacle.scripts.errors import DamagedRunError, InvalidTicketError, ScriptError
from tentacle.scripts.shim import run_record
from tentacle.scripts.shim.file_flags import free, free_path
from tentacle.scripts.shim.log_format import ERR_ENTRY, OUT_ENTRY, VERSION, record
from tentacle.scripts.shim.log_writer import LogWriter, open_log
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.run_files import (
    LOG_SUFFIX,
    RUN_SUFFIX,
    TEMPORARY_SUFFIX,
    ExaminedRun,
    RunFiles,
    examine,
    run_name,
)
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.validation import require_ticket

logger = logging.getLogger(__name__)

LOG_DELETED = "The log of this script has been deleted while no agent was there to read it."
LONGEST_HEADER = 4 * 1024 * 1024
"""Bytes.  No process can be given arguments of such a size."""
_FILE_OF_RUN = re.compile("([0-9a-f]{64})" + re.escape(RUN_SUFFIX))
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_CHANGE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class RunDirectory:
    """`Work/.runs`: the files of all runs."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.path = work / RUNS

    def ensure(self) -> None:
        """Makes the directory when it is missing.

        Renames what any script of the agent's own user can put there instead, also a link.  As root takes a directory
        back that was given away: each file in it is believed by its own owner.  Raises `ScriptError` for what belongs
        to another user.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                found = self.path.lstat()
                if not stat.S_ISDIR(found.st_mode) and (os.geteuid() == 0 or found.st_uid in self._trusted()):
                    aside = disk.move_aside(self.path)
                    logger.warning("'%s' was no directory; what was there is now called '%s'", self.path, aside)
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
                # Without its own name, nothing in it survives a power cut.
                disk.flush_directory(self.work)
            disk.restore_rights(self.path)
            self._take_back()
            found = self.path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in self._trusted():
                raise ScriptError(
                    f"'{self.path}' is not a directory of the agent's user, so nothing about scripts can be kept there",
                    hint="Move it away; the agent makes it anew.",
                    exit_code=EXIT_USER_ERROR,
                )
            if stat.S_IMODE(found.st_mode) != 0o700:
                # Some file systems have no modes.
                with contextlib.suppress(OSError):
                    self.path.chmod(0o700)
        except OSError as error:
            raise ScriptError(f"The directory '{self.path}' cannot be made: {error.strerror}") from error

    def _take_back(self) -> None:
        """Raises `OSError`."""
        directory = os.open(self.path, _LOOK | os.O_DIRECTORY)
        try:
            free(directory)
            if os.geteuid() == 0 and os.fstat(directory).st_uid not in self._trusted():
                os.fchown(directory, 0, -1)
        finally:
            os.close(directory)

    def require_locks(self) -> None:
        """Raises `ScriptError` on a file system without locks, where running scripts could not be recognised.

        Where there is no directory, there are none.
        """
        probe = self.path / f".lock-{secrets.token_hex(4)}"
        try:
            descriptor = os.open(probe, _NEW, 0o600)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.close(descriptor)
                probe.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in _NO_CHANGE:
                # Full, or kept from any change: what has ended there can still be told of.
                return
            raise ScriptError(
                f"The file system of '{self.path}' cannot lock files: {error.strerror}",
                hint="Put the instance's home on a local file system (create-instance --home=...), or mount this one "
                "with locks.",
                exit_code=EXIT_USER_ERROR,
            ) from error

    def unended(self) -> list[str]:
        """Returns the names of all runs but those that have simply ended, and were neither completed nor damaged.

        Opens each file once, since there may be many.
        """
        trusted, names = self._trusted(), []
        for name in self.names():
            over = False
            with contextlib.suppress(OSError):
                run = os.open(self.run_path(name), _LOOK)
                try:
                    found = os.fstat(run)
                    if stat.S_ISREG(found.st_mode) and found.st_uid in trusted:
                        ended = run_record.read_result(run) is not None and not run_record.is_completed(run)
                        over = ended and run_record.read_header(run, LONGEST_HEADER) is not None
                finally:
                    os.close(run)
            if not over:
                names.append(name)
        return names

    def run_path(self, name: str) -> Path:
        return self.path / f"{name}{RUN_SUFFIX}"

    def log_path(self, name: str) -> Path:
        return self.path / f"{name}{LOG_SUFFIX}"

    def exists(self, name: str) -> bool:
        """Returns whether anything has the name of that run's `.run` file."""
        return os.path.lexists(self.run_path(name))

    def names(self) -> Iterator[str]:
        """Yields the names of all runs; none when the directory was removed."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path) as entries:
            for entry in entries:
                # A path is made of a name: one such as `..` would be another place than a run's.
                if found := _FILE_OF_RUN.fullmatch(entry.name):
                    yield found[1]

    def create(self, header: RunHeader, opening: Sequence[str]) -> RunFiles:
        """Writes the two files, with the first entries in the log; from then on this is a run.

        Replaces files that were never a whole run.  Raises `OSError`, and leaves no file then.
        """
        name, encoded = run_name(header.ticket), header.encode()
        if len(encoded) > LONGEST_HEADER:
            # No agent would read it again.
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        run_path, log_path = self.run_path(name), self.log_path(name)
        start = b"".join(record(OUT_ENTRY, header.created, line.encode("utf-8", "replace")) for line in opening)
        log = self._new(log_path, VERSION + start, os.O_APPEND)
        try:
            run = self._new(run_path, run_record.head() + run_record.encode_header(encoded))
        except OSError:
            os.close(log)
            log_path.unlink(missing_ok=True)
            raise
        return RunFiles(self.path, name, self.work / header.ticket, header, run, log)

    def bar(self, name: str) -> bool:
        """Keeps a run that cannot be read from being started again; false when its name is taken already."""
        with contextlib.suppress(OSError):
            try:
                run = os.open(self.run_path(name), _NEW, 0o600)
            except FileExistsError:
                return False
            try:
                os.write(run, run_record.head())
                run_record.mark_claimed(run)
            finally:
                os.close(run)
        return True

    def open(self, name: str) -> RunFiles | None:
        """Returns the run of that name; `None` when there is none.

        Raises `DamagedRunError` when its files cannot be read: treated as missing, the run could be started again.
        """
        path = self.run_path(name)
        try:
            run = _open_freed(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DamagedRunError(path, one_line(error)) from error
        try:
            header = self._read(path, run)
            if header is None:
                os.close(run)
                return None
            log_path = self.log_path(name)
            free_path(log_path)
            deleted = not log_path.exists() or log_path.stat().st_size == 0
            try:
                log = open_log(str(log_path))
            except OSError as error:
                # Its result counts without it, and its mutex.
                logger.warning("The log of a script, '%s', cannot be read: %s", log_path, one_line(error))
                log = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            if deleted:
                LogWriter(log).entry(ERR_ENTRY, LOG_DELETED)
        except (OSError, DamagedRunError) as error:
            os.close(run)
            raise error if isinstance(error, DamagedRunError) else DamagedRunError(path, one_line(error)) from error
        return RunFiles(self.path, name, self.work / header.ticket, header, run, log)

    def look(self, name: str) -> tuple[RunHeader, ExaminedRun] | None:
        """Returns the header and the stage of a run, and changes nothing; `None` when they cannot be read."""
        try:
            run = os.open(self.run_path(name), _LOOK)
        except OSError:
            return None
        try:
            header = self._read(self.run_path(name), run)
            return None if header is None else (header, examine(run))
        except (OSError, DamagedRunError):
            return None
        finally:
            os.close(run)

    def is_completed(self, name: str) -> bool:
        """Returns whether the run of that name was completed while its script ran."""
        with contextlib.suppress(OSError):
            run = os.open(self.run_path(name), _LOOK)
            try:
                return run_record.is_completed(run)
            finally:
                os.close(run)
        return False

    def is_held(self, name: str) -> bool:
        """Returns whether a shim watches the run of that name, even if its header is damaged."""
        try:
            run = os.open(self.run_path(name), _LOOK)
        except OSError:
            return False
        try:
            return run_record.holder(run) is not None
        except OSError:
            return False
        finally:
            os.close(run)

    def paths(self, name: str) -> tuple[Path, ...]:
        """Returns the paths that the run of that name may have, the `.run` file last."""
        return self.path / f"{name}{TEMPORARY_SUFFIX}", self.log_path(name), self.run_path(name)

    def _read(self, path: Path, run: int) -> RunHeader | None:
        """Returns the header; `None` when it was never whole: then the start was never answered."""
        found = os.fstat(run)
        if not stat.S_ISREG(found.st_mode):
            raise DamagedRunError(path, "it is not a file")
        if found.st_uid not in self._trusted():
            raise DamagedRunError(path, "it was not written by this agent's user")
        if (version := run_record.version_of(run)) > run_record.VERSION_NUMBER:
            newer = f"a newer version of Tentacle has written it (run files of version {version}; this one knows "
            raise DamagedRunError(path, f"{newer}{run_record.VERSION_NUMBER}); a downgrade is not supported")
        try:
            data = run_record.read_header(run, LONGEST_HEADER)
        except MemoryError as error:
            raise DamagedRunError(path, "it is too long for the memory that is left") from error
        if data is None:
            if run_record.was_begun(run):
                raise DamagedRunError(path, "what was asked for is not to be read any more")
            return None
        try:
            header = RunHeader.decode(data)
        except ValueError as error:
            raise DamagedRunError(path, one_line(error)) from error
        if run_name(header.ticket) != path.name.removesuffix(RUN_SUFFIX):
            raise DamagedRunError(path, "it belongs to another ticket")
        try:
            # The path of the workspace is made of it.
            require_ticket(header.ticket)
        except InvalidTicketError as error:
            raise DamagedRunError(path, "its ticket cannot name a workspace") from error
        return header

    def _trusted(self) -> tuple[int, int]:
        # On some network file systems all files belong to one user, that of the mount.
        try:
            return os.geteuid(), self.work.stat().st_uid
        except OSError:
            # There is none, or a link in its place that leads nowhere.
            return os.geteuid(), os.geteuid()

    def _new(self, path: Path, data: bytes, flags: int = 0) -> int:
        """Returns an open new file with that content; replaces whatever has the name."""
        try:
            descriptor = os.open(path, _NEW | flags, 0o600)
        except FileExistsError:
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink()
            descriptor = os.open(path, _NEW | flags, 0o600)
        try:
            disk.write_all(descriptor, data)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return descriptor


def _open_freed(path: Path) -> int:
    """Opens a run's file for reading and writing, also one that a script has closed to all changes."""
    try:
        return os.open(path, _OPEN)
    except PermissionError:
        if not free_path(path):
            raise
        return os.open(path, _OPEN)
