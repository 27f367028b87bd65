"""The two open files of a run, `Work/.runs/NAME.run` and `NAME.log`, from the agent's side.

    prepared -> running -> ended
        |          |
        +----------+-----> lost       claimed, but neither alive nor with a result

NAME is made from the folded ticket.  `run_directory.py` makes, finds and reads the files, whose form is in
docs/spec/run-files.md, "The run file" and "The log file".
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import os
import stat
from pathlib import Path

from tentacle.records import dataclass
from tentacle.scripts.shim import run_record
from tentacle.scripts.shim.log_format import ERR, ERR_ENTRY, OUT, OUT_ENTRY, VERSION
from tentacle.scripts.shim.log_writer import LogWriter
from tentacle.scripts.shim.run_record import Result
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.validation import fold

RUN_SUFFIX, LOG_SUFFIX, TEMPORARY_SUFFIX = ".run", ".log", ".tmp"


class Stage(enum.Enum):
    PREPARED = "prepared"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"


@dataclass(frozen=True)
class ExaminedRun:
    """The stage of a run; `pid` is that of its shim while it is running, `result` is set when it has ended, and
    `cgroup` may be when it is lost.
    """

    stage: Stage
    pid: int = 0
    result: Result | None = None
    cgroup: str = ""


def examine(run: int) -> ExaminedRun:
    """Returns the stage of the run with the open `.run` file."""
    for attempt in range(2):
        if (result := run_record.read_result(run)) is not None:
            return ExaminedRun(Stage.ENDED, result=result)
        if (pid := run_record.holder(run)) is not None:
            return ExaminedRun(Stage.RUNNING, pid)
        if attempt == 0 and not run_record.is_claimed(run):
            return ExaminedRun(Stage.PREPARED)
        # Between these checks a shim may have written its result and released its lock, so check once more.
    return ExaminedRun(Stage.LOST, cgroup=run_record.read_cgroup(run))


class RunFiles:
    """The open files of one run."""

    def __init__(self, directory: Path, name: str, workspace: Path, header: RunHeader, run: int, log: int) -> None:
        """Takes over the two descriptors."""
        self.name = name
        self.workspace = workspace
        self.header = header
        self.run_path = directory / f"{name}{RUN_SUFFIX}"
        self.log_path = directory / f"{name}{LOG_SUFFIX}"
        self.temporary = directory / f"{name}{TEMPORARY_SUFFIX}"
        """Where a sandbox may keep directories that are removed with the run."""
        self.run = run
        self.log = log
        self.opened = True
        self.completed = run_record.is_completed(run)

    def examine(self) -> ExaminedRun:
        """Returns the stage of the run."""
        return examine(self.run)

    @property
    def lags(self) -> bool:
        """Whether `catch_up` has much to do before the run may be examined; `stage` is all that is known until then."""
        return False

    def catch_up(self) -> None:
        """Does that; call from a thread."""

    def stage(self) -> ExaminedRun:
        """As `examine`, and changes nothing."""
        return self.examine()

    @property
    def lives_in_workspace(self) -> bool:
        """Whether what tells that the script runs lies in its workspace, which must stay as long."""
        return False

    @property
    def cgroup(self) -> str:
        """The cgroup that the shim was born in and shares with the script; empty when none is recorded."""
        return run_record.read_cgroup(self.run)

    def log_entries(self, *lines: str) -> None:
        """Logs entries of the agent on standard output.  Only while no shim writes."""
        LogWriter(self.log).write([(OUT_ENTRY, line.encode("utf-8", "replace")) for line in lines])

    def log_errors(self, *lines: str) -> None:
        """As `log_entries`, on standard error."""
        LogWriter(self.log).write([(ERR_ENTRY, line.encode("utf-8", "replace")) for line in lines])

    def is_claimed(self) -> bool:
        """Returns whether a shim has ever begun the run."""
        return not self.opened or run_record.is_claimed(self.run)

    def end(self, exit_code: int, reason: str = "") -> Result:
        """Ends a run that has no shim: ends the open lines, logs the reason, writes the result and returns it."""
        writer = LogWriter(self.log)
        writer.write([(OUT, b""), (ERR, b"")])
        logged = not reason or writer.entry(ERR_ENTRY, reason)
        result = Result.now(exit_code, kind=ERR_ENTRY, reason="" if logged else reason)
        run_record.write_result(self.run, result)
        return result

    def cut_log(self, position: int) -> None:
        """Removes what follows the last whole record, at `position`, after a crash; the whole log, if it has none."""
        if os.fstat(self.log).st_size > position:
            os.ftruncate(self.log, position)
        if position == 0:
            # A full disk costs the lines that come, and never the result.
            with contextlib.suppress(OSError):
                os.write(self.log, VERSION)

    def mark_completed(self) -> None:
        """Marks the run as completed and removes its log; the `.run` file stays until the script ends."""
        run_record.mark_completed(self.run)
        self.completed = True
        self.log_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forgets the run.  Only after its shim has ended; raises `OSError`."""
        self.close()
        self.log_path.unlink(missing_ok=True)
        # Last, because without this file there is no run.
        self.run_path.unlink(missing_ok=True)

    def close(self) -> None:
        if self.opened:
            self.opened = False
            os.close(self.run)
            os.close(self.log)

    def log_size(self) -> int:
        """Returns the bytes that the log takes; 0 when there is none."""
        try:
            return self.log_path.lstat().st_size
        except OSError:
            return 0

    def open_log(self) -> int:
        """Returns a descriptor of the log that the caller must close; it may outlive these files, say in a thread."""
        if self.opened:
            return os.dup(self.log)
        try:
            log = os.open(self.log_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return os.open(os.devnull, os.O_RDONLY)
        if stat.S_ISREG(os.fstat(log).st_mode):
            return log
        os.close(log)
        return os.open(os.devnull, os.O_RDONLY)


def run_name(ticket: str) -> str:
    """Returns the name of a run's files: a ticket may be too long for a file name, and its case does not count."""
    return hashlib.sha256(fold(ticket).encode("utf-8", "surrogatepass")).hexdigest()
