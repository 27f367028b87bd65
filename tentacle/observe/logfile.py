"""The log file of an instance, `HOME/Logs/OctopusTentacle.txt`: its layout and its rolling.

Several processes append to the same file (the agent and every command), so before each line it is made sure that the
open file is still the one with that name.  When the log cannot be written, the line is lost and the work goes on.  Must
not know what is logged or who chose the path.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from tentacle import disk
from tentacle.home_layout import LOG_FILE
from tentacle.observe.json_lines import JsonFormatter
from tentacle.observe.levels import short_name
from tentacle.observe.text import visible
from tentacle.path_walk import LinkRefused, Place, parent_of, wary_root

log = logging.getLogger(__name__)

_PENDING_RECORDS: Final = 1000
_OPEN = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK
"""No pipe is waited for: root's commands write into a directory of the service user."""


class LayoutFormatter(logging.Formatter):
    """`yyyy-MM-dd HH:mm:ss.ffff+hh:mm  PID  TID LEVEL  message`, local time with its distance from UTC, one record per
    line (docs/spec/command-line.md, "Log file").

    A traceback follows on lines of its own; they are indented, so that none looks like a record.
    """

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "microseconds")
        # Four digits of the fraction, and an offset without the seconds that those of old times had.
        stamp = f"{when[:24]}{when[26:32]}"
        level = short_name(record.levelno)
        tid = threading.get_native_id()
        lines = [f"{stamp}  {record.process or 0:>5}  {tid:>5} {level:>5}  {visible(record.getMessage())}"]
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        lines += [f"    {visible(line)}" for line in (record.exc_text or "").splitlines()]
        return "\n".join(lines) + "\n"


class _JsonLine(JsonFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return super().format(record) + "\n"


class RollingFile:
    """An append-only text file that starts anew every day and at `max_bytes`; `name.0.txt` is the newest of `kept` old
    ones.

    Several processes may append.  With `alone` one does: then what could not be written to its end is taken back.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        kept: int,
        now: Callable[[], datetime] = datetime.now,
        mode: int = 0o640,
        alone: bool = False,
    ) -> None:
        self.path = path
        self._mode = mode
        self._alone = alone
        self._now = now
        self._max_bytes = max_bytes
        self._kept = kept
        self._place: Place | None = None
        self._open_file: tuple[Place, int, os.stat_result] | None = None
        """The open file, and what was known of it then."""
        self._held = contextlib.ExitStack()

    def append(self, text: str) -> None:
        """Appends `text`.  Raises `OSError`."""
        place, fd, status = self._kept_open() or self._open()
        if self._is_due(status):
            self._roll(place)
            place, fd, status = self._kept_open() or self._open()
        self._write(fd, text, status)

    def _write(self, fd: int, text: str, before: os.stat_result) -> None:
        try:
            disk.write_all(fd, text.encode(errors="backslashreplace"))
        except OSError:
            if self._alone:
                os.ftruncate(fd, before.st_size)
            raise

    def close(self) -> None:
        """Lets go of file and directory; the next line opens them again."""
        if self._open_file is not None:
            os.close(self._open_file[1])
        self._held.close()
        self._place = self._open_file = None

    def _open(self) -> tuple[Place, int, os.stat_result]:
        """Returns the file, which stays open, what is known of it at this moment, and its place."""
        place = self._found()
        made = place.status() is None
        if made:
            try:
                fd = place.open(_OPEN | os.O_CREAT | os.O_EXCL, self._mode)
            except FileExistsError:  # another process was faster
                made = False
        if not made:
            fd = place.open(_OPEN)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{self.path} is not a regular file")
            place.require_alone(status)
            # Only a new file is given away: who owns the directory can put any file of ours there that he may move.
            if made and (owner := os.fstat(place.directory)).st_uid != os.geteuid():
                disk.keep_owner(fd, owner)
        except OSError:
            os.close(fd)
            raise
        self._open_file = place, fd, status
        return self._open_file

    def _kept_open(self) -> tuple[Place, int, os.stat_result] | None:
        """As `_open`, if the path still leads to the file that was looked at when it was opened."""
        if self._open_file is None:
            return None
        place, fd, known = self._open_file
        try:
            status = self.path.lstat()
        except OSError:
            self.close()
            return None
        if os.path.samestat(known, status):
            return place, fd, status
        self.close()
        return None

    def _found(self) -> Place:
        """The place of the file; walked to once, and again when there is another directory."""
        if self._place is not None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._place.directory), self.path.parent.stat()):
                    return self._place
            self.close()
        place = self._held.enter_context(parent_of(self.path, wary_root()))
        place.require_writable()
        self._place = place
        return place

    def _is_due(self, status: os.stat_result) -> bool:
        if status.st_size == 0:
            return False
        return status.st_size >= self._max_bytes or datetime.fromtimestamp(status.st_mtime).date() < self._now().date()

    def _roll(self, place: Place) -> None:
        """Renames the old files by one number, unless another process is doing so or has just done so."""
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.directory)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                # Without locks two processes may both roll, which is better than a log that ends with its first day.
                if isinstance(error, BlockingIOError):
                    return
            if self._is_due(os.stat(place.name, dir_fd=folder, follow_symlinks=False)):
                surplus = self._kept
                with contextlib.suppress(FileNotFoundError):
                    while True:  # More were kept once.
                        os.unlink(self._rolled(surplus), dir_fd=folder)
                        surplus += 1
                for number in range(self._kept - 1, 0, -1):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(self._rolled(number - 1), self._rolled(number), src_dir_fd=folder, dst_dir_fd=folder)
                os.replace(place.name, self._rolled(0), src_dir_fd=folder, dst_dir_fd=folder)
        except FileNotFoundError:
            return
        finally:
            os.close(folder)

    def _rolled(self, number: int) -> str:
        return f"{self.path.stem}.{number}{self.path.suffix}"


class FileLogHandler(logging.Handler):
    """Writes records to the log file; keeps the first records until the instance, and so the file, is known."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(LayoutFormatter())
        self._file: RollingFile | None = None
        self._told = False
        self.tells = False
        """Whether a file that cannot be written is told elsewhere, once; not by commands, whose user may not."""
        self._pending: deque[logging.LogRecord] = deque(maxlen=_PENDING_RECORDS)

    @property
    def path(self) -> Path | None:
        """The file that the records go to; `None` while they are kept."""
        return self._file.path if self._file else None

    def attach(self, folder: Path, *, max_bytes: int, kept: int, as_json: bool = False) -> None:
        """Logs into `folder` from now on, beginning with the records that are pending; never raises `OSError`.

        A folder that is missing is made.
        """
        if self._file is not None:
            self._file.close()
        self._file = RollingFile(folder / LOG_FILE, max_bytes=max_bytes, kept=kept)
        try:
            disk.make_directories(folder.parent, mode=0o750)
            disk.make_directories(
                folder, mode=0o750, like=folder.parent if disk.is_of_another_user(folder.parent) else None
            )
        except disk.DiskError as error:
            if self.tells:
                self._tell(error.message)
        self.setFormatter(_JsonLine() if as_json else LayoutFormatter())
        while self._pending:
            self.handle(self._pending.popleft())

    def emit(self, record: logging.LogRecord) -> None:
        if self._file is None:
            self._pending.append(record)
            return
        try:
            self._file.append(self.format(record))
        except OSError as error:
            if self.tells or isinstance(error, LinkRefused):
                self._tell(f"{error.strerror or error}")
        else:
            self._told = False

    def _tell(self, why: str) -> None:
        if not self._told:
            self._told = True
            log.warning("Nothing is written to the log file '%s'. %s", self.path, why)

    def close(self) -> None:
        super().close()
        if self._file is not None:
            self._file.close()
