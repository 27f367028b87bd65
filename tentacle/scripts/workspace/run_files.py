"""What is known of a run, told by its files alone.

    prepared -> running -> ended
        |          |
        +----------+-----> lost       claimed, but neither alive nor with a result

The open files of a run are kept as descriptors, so that a script that deletes its own workspace keeps its log and its
exit code as long as the agent lives, and a workspace that is deleted under a running script stays deleted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from tentacle.contracts.script import ScriptIsolationLevel
from tentacle.scripts.mutexes import Isolation
from tentacle.scripts.shim import run_state
from tentacle.scripts.shim.log_format import ERR, ERR_ENTRY, OUT, OUT_ENTRY
from tentacle.scripts.shim.log_writer import Journal, now_ms

LOG_FILE = "Output.log"
SCRIPT_FILE = "Bootstrap.sh"

LOG_DELETED = "The log of this script has been deleted while no agent was there to read it."
_LOG_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
_NOTE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@functools.cache
def boot_id() -> str:
    """Changes with every start of the machine."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


@dataclass(frozen=True)
class RunSettings:
    """The start command as the run needs it, kept on disk from before the start.

    `timeout` is in seconds, `None` for no limit; `created` in milliseconds since 1970; `boot` the machine's start;
    `sealed` what is kept of the passwords of its files, see `sensitive.py`.
    """

    ticket: str
    task: str
    mutex: str
    isolation: int
    timeout: float | None
    arguments: tuple[str, ...] = dataclasses.field(repr=False)
    created: int
    boot: str
    sealed: str = dataclasses.field(default="", repr=False)

    @property
    def wants(self) -> Isolation:
        full = ScriptIsolationLevel(self.isolation) is ScriptIsolationLevel.FULL_ISOLATION
        return Isolation(self.mutex, full, self.task)

    def encode(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> RunSettings:
        """Raises `ValueError` when `data` is not what `encode` gave: a script may have written there."""
        values = json.loads(data)
        try:
            settings = cls(**{**values, "arguments": tuple(values["arguments"])})
        except (TypeError, KeyError) as error:
            raise ValueError(str(error)) from error
        texts = (settings.ticket, settings.task, settings.mutex, settings.boot, settings.sealed, *settings.arguments)
        numbers = (settings.isolation, settings.created, settings.timeout or 0.0)
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(n, int | float) for n in numbers):
            raise ValueError("a value is of another kind than the agent's own")
        ScriptIsolationLevel(settings.isolation)
        return settings


class Stage(enum.Enum):
    PREPARED = "prepared"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"


@dataclass(frozen=True)
class Finding:
    """Where a run stands: `pid` of its runner while it is running, `exit_code` when it has ended."""

    stage: Stage
    pid: int = 0
    exit_code: int = 0


class RunFiles:
    """The open files of one run."""

    def __init__(self, workspace: Path) -> None:
        """Raises `FileNotFoundError` when the workspace is not that of a run, `ValueError` when it cannot be ours."""
        self.workspace = workspace
        self._open: list[int] = []
        self.opened = False
        try:
            self._state = self._keep(os.open(workspace / run_state.STATE, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
            self._require_own()
            self._result = self._keep_file(os.open(run_state.RESULT, os.O_RDWR | os.O_NOFOLLOW, dir_fd=self._state))
            self.settings = self._read_settings()
            self.log = self._keep_file(os.open(workspace / LOG_FILE, _LOG_FLAGS, 0o600))
            if os.fstat(self.log).st_size == 0:
                Journal(self.log).entry(ERR_ENTRY, LOG_DELETED)
            self.opened = True
        finally:
            if not self.opened:
                self.close()

    def _keep(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor

    def _keep_file(self, descriptor: int) -> int:
        if not stat.S_ISREG(os.fstat(self._keep(descriptor)).st_mode):
            raise ValueError("one of its files is none")
        return descriptor

    def _require_own(self) -> None:
        """A script with a user of its own may put a directory of its own there: nothing that it says is believed."""
        # On some network file systems nothing belongs to us, but all to one.
        trusted = (os.geteuid(), self.workspace.parent.stat().st_uid)
        if os.fstat(self._state).st_uid not in trusted:
            raise ValueError("it was not written by this agent's user")

    def _read_settings(self) -> RunSettings:
        # A runner may rename the one to the other between two looks: look for the claimed one again.
        first, prepared, again = map(self._read, (run_state.CLAIMED, run_state.PREPARED, run_state.CLAIMED))
        claimed = again if first is None else first
        if claimed is not None:
            return RunSettings.decode(claimed)
        try:
            return RunSettings.decode(prepared or b"")
        except ValueError:
            # They are whole and synced before anything may run: this has never been more than a directory.
            raise FileNotFoundError(self.workspace / run_state.STATE / run_state.PREPARED) from None

    def _read(self, name: str) -> bytes | None:
        try:
            # Not to be held up by a pipe that a script has put there.
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._state)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    @property
    def cgroup(self) -> str:
        """That which the run's watcher was born in and shares with it; empty when it has none, or is not known."""
        return run_state.read_cgroup(self._result) if self.opened else ""

    def sync(self) -> None:
        """Puts the settings on the disk.  Only before the run is begun; raises `OSError`."""
        descriptor = os.open(run_state.PREPARED, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._state)
        try:
            # Syncing a new file syncs its name, the renaming and its new parents on every file system that we know of.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def withdraw(self) -> None:
        """Makes it none; only before the run is begun."""
        with contextlib.suppress(OSError):
            os.unlink(run_state.PREPARED, dir_fd=self._state)
        self.close()

    def remember(self, name: str, data: bytes) -> None:
        """Keeps something small about the run for a later agent; without room for it nothing is kept."""
        with contextlib.suppress(OSError):
            descriptor = os.open(name, _NOTE_FLAGS, 0o600, dir_fd=self._state)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)

    def recall(self, name: str) -> bytes | None:
        """What has been kept under this name."""
        return self._read(name)

    def has_name(self) -> bool:
        """False when the script has deleted its own log: then these files are the only way to it."""
        return bool(self._open) and os.fstat(self.log).st_nlink > 0

    def close(self) -> None:
        self.opened = False
        while self._open:
            os.close(self._open.pop())

    def examine(self) -> Finding:
        """Where the run stands now."""
        for attempt in range(2):
            if (code := run_state.read_result(self._result)) is not None:
                return Finding(Stage.ENDED, exit_code=code)
            if (pid := run_state.holder(self._result)) is not None:
                return Finding(Stage.RUNNING, pid=pid)
            if attempt == 0 and self._prepared():
                return Finding(Stage.PREPARED)
            # Between the two looks a runner may have written its result and let go of its lock: look once more.
        return Finding(Stage.LOST)

    def _prepared(self) -> bool:
        try:
            os.stat(run_state.PREPARED, dir_fd=self._state, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def say(self, *lines: str) -> None:
        """Entries of the agent on the script's standard output.  Only while no runner writes."""
        Journal(self.log).write([(OUT_ENTRY, line.encode("utf-8", "replace")) for line in lines])

    def end(self, exit_code: int, reason: str = "") -> None:
        """Ends a run that no runner will end: open lines first, then the reason, then the result."""
        journal = Journal(self.log)
        journal.write([(OUT, b""), (ERR, b"")])
        if reason and not journal.entry(ERR_ENTRY, reason):
            run_state.give_back_reserve(self._result)
            journal.entry(ERR_ENTRY, reason)
        run_state.write_result(self._result, exit_code, now_ms())

    def cut_log(self, position: int) -> None:
        """Takes off what a machine that went down has left half written."""
        if os.fstat(self.log).st_size > position:
            os.ftruncate(self.log, position)


def is_watched(workspace: Path) -> bool:
    """Whether a process watches over a run in this workspace, whatever else can be read there."""
    try:
        result = os.open(workspace / run_state.STATE / run_state.RESULT, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return run_state.holder(result) is not None
    except OSError:
        return False
    finally:
        os.close(result)


def preamble(workspace: Path, user: str) -> list[str]:
    """What the log says right before the script starts (tentacle-services.md 3.6, 5 to 7); all debug entries."""
    return [
        "Executable directory is /bin",
        "Executable name or full path: /bin/bash",
        f"Starting /bin/bash in working directory '{workspace}' using 'Unicode (UTF-8)' encoding running as '{user}'",
    ]


def opening(settings: RunSettings) -> list[str]:
    """What the log says first of all (tentacle-services.md 3.6, 1 to 3); all on standard output."""
    level = "FullIsolation" if settings.wants.exclusive else "NoIsolation"
    return [
        "##octopus[stdout-verbose]",
        f"Acquiring isolation mutex {settings.mutex} with {level} in {settings.task}",
        "##octopus[stdout-default]",
    ]
