"""Converts runs of Tentacle 0.1, which kept all files of a run in its workspace, into today's two files.

    TICKET/.tentacle/prepared or claimed    the request, as JSON; the renaming was the claim
    TICKET/.tentacle/result                 the exit code; locked by the shim
    TICKET/Output.log                       records: `o 1795402850283 12`, line feed, 12 bytes, line feed

An agent that starts copies each of them.  A run whose old shim still lives is followed: what that shim writes is copied
until it has ended.  An unfinished copy is made anew.  To be removed when nobody upgrades from 0.1.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from tentacle.errors import one_line
from tentacle.scripts.errors import ScriptError
from tentacle.scripts.shim import run_record
from tentacle.scripts.shim.log_format import KINDS, LATEST, LONGEST_BODY, record
from tentacle.scripts.shim.run_record import Result
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.run_directory import LOG_DELETED
from tentacle.scripts.workspace.run_files import ExaminedRun, RunFiles, Stage, run_name
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.validation import LOG_FILE, require_ticket
from tentacle.scripts.workspace.workspaces import Workspaces

log = logging.getLogger(__name__)

_STATE = ".tentacle"
_CGROUP_AT, _CGROUP_LENGTH, _RESULT_LENGTH = 1024, 2048, 64
_LONGEST_FILE = 16 * 1024 * 1024
_LONGEST_LINE = 48
_PIECE = 1024 * 1024
_COPIED_AT_ONCE = 16 * 1024 * 1024
"""Bytes of a log; more than that is copied in a thread, while the agent runs."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def old_runs(workspaces: Workspaces, left: Iterable[Path]) -> Iterator[RunFiles]:
    """Yields the runs that an agent of version 0.1 has left in the workspaces `left`, for which `has_state` is true.

    Logs one that cannot be read, and leaves a damaged run in its place, so that it is not started again.
    """
    for workspace in left:
        try:
            opened = os.open(workspace / _STATE, _READ | os.O_DIRECTORY)
            try:
                yield from _take_over(workspaces, workspace, opened)
            finally:
                os.close(opened)
        except (OSError, ValueError, RecursionError, MemoryError, KeyError, TypeError, ScriptError) as error:
            if workspaces.runs.bar(run_name(workspace.name)):
                why = one_line(error)
                log.warning("The script of an earlier version in '%s' cannot be taken over: %s", workspace, why)


def has_state(workspace: Path) -> bool:
    """Returns whether somebody has begun a run of 0.1 in this workspace, or hides whether it is so."""
    state = workspace / _STATE
    try:
        is_directory = stat.S_ISDIR(state.lstat().st_mode)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return is_directory and any(os.path.lexists(state / name) for name in ("claimed", "prepared"))


def _take_over(workspaces: Workspaces, workspace: Path, opened: int) -> Iterator[RunFiles]:
    # Whatever a script puts in its place meanwhile is not looked at.
    state = Path(f"/proc/self/fd/{opened}")
    if os.fstat(opened).st_uid not in (os.geteuid(), workspaces.work.stat().st_uid):
        raise ValueError("it was not written by this agent's user")
    claimed = (state / "claimed").exists()
    try:
        values = json.loads(_read(state / ("claimed" if claimed else "prepared")))
    except ValueError:
        if claimed:
            raise
        # The start was never finished, so there is no run.
        return
    limits = dict(json.loads(_read(state / "limits"))) if (state / "limits").exists() else {}
    names = ("ticket", "task", "mutex", "isolation", "timeout", "arguments", "created", "boot")
    wanted = {name: values[name] for name in names} | {"sealed": values.get("sealed", "")}
    header = RunHeader.decode(json.dumps(wanted | {"limits": list(limits.values())}).encode())
    if require_ticket(header.ticket) != workspace.name:
        raise ValueError("it belongs to another ticket")
    found = workspaces.runs.look(run_name(header.ticket))
    if found is not None and found[0] != header:
        # Not a copy of it that was not finished: a script of today has made itself such files.
        raise ValueError("another script has that ticket")
    with contextlib.ExitStack() as undo:
        result = os.open(state / "result", _READ)
        undo.callback(os.close, result)
        old_log, deleted = _open_log(workspace / LOG_FILE)
        undo.callback(os.close, old_log)
        statuses = [os.fstat(descriptor) for descriptor in (result, old_log)]
        if not all(stat.S_ISREG(one.st_mode) and one.st_nlink <= 1 for one in statuses):
            raise ValueError("one of its files is none, or another file too")
        completed = workspaces.runs.is_completed(run_name(header.ticket))
        files = workspaces.runs.create(header, (LOG_DELETED,) if deleted else ())
        old = OldRun(files, result, old_log, workspace / _STATE, claimed=claimed)
        undo.pop_all()
    if completed:
        old.mark_completed()
    if old.lags or old.examine().stage is Stage.RUNNING:
        yield old
        return
    if claimed:
        run_record.mark_claimed(old.run)
        run_record.note_cgroup(old.run, old.cgroup)
    old.close()
    remove_tree(workspace / _STATE)
    if (copy := workspaces.runs.open(old.name)) is not None:
        yield copy


def _open_log(path: Path) -> tuple[int, bool]:
    """Returns a descriptor of the old log, and whether it has been deleted; then nothing can be read from it."""
    try:
        return os.open(path, _READ), False
    except FileNotFoundError:
        return os.memfd_create(LOG_FILE), True


def _read(path: Path) -> bytes:
    with os.fdopen(os.open(path, _READ), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"'{path.name}' is not a file")
        return file.read(_LONGEST_FILE)


class OldRun(RunFiles):
    """A run that a shim of version 0.1 may still watch: its files are a copy that grows with the old ones."""

    def __init__(self, files: RunFiles, result: int, old_log: int, state: Path, *, claimed: bool) -> None:
        """Takes over `files` and the descriptors of the old ones."""
        super().__init__(files.run_path.parent, files.name, files.workspace, files.header, files.run, files.log)
        self._result = result
        self._old_log = old_log
        self._state = state
        self._claimed = claimed
        self._copied = 0
        self._copying = threading.Lock()
        self._closing = self._is_stuck = False
        """Stuck: what is left of the log is no whole record, or finds no room."""

    @property
    def cgroup(self) -> str:
        line, end, _ = os.pread(self._result, _CGROUP_LENGTH, _CGROUP_AT).partition(b"\n")
        return os.fsdecode(line) if end and line.startswith(b"/") else ""

    @property
    def lives_in_workspace(self) -> bool:
        return True

    @property
    def lags(self) -> bool:
        # Of a completed run nobody reads the log any more.
        return (
            self.opened
            and not (self.completed or self._is_stuck)
            and os.fstat(self._old_log).st_size - self._copied > _COPIED_AT_ONCE
        )

    def catch_up(self) -> None:
        self._copy_log()

    def examine(self) -> ExaminedRun:
        """Returns the stage of the run by its old files; copies what is new in them."""
        # The lock is checked before the result is read: the old shim writes its result before it releases the lock.
        found = self.stage()
        self._copy_log()
        if found.result is not None:
            run_record.write_result(self.run, found.result)
        return found

    def stage(self) -> ExaminedRun:
        holder = run_record.holder(self._result)
        result = self._read_result()
        if result is not None:
            return ExaminedRun(Stage.ENDED, result=result)
        if holder is not None:
            return ExaminedRun(Stage.RUNNING, holder)
        return ExaminedRun(Stage.LOST if self._claimed else Stage.PREPARED)

    def open_log(self) -> int:
        if self.opened:
            self._copy_log()
        return super().open_log()

    def close(self) -> None:
        self._closing = True
        # A thread may be about to write a piece.
        with self._copying:
            if self.opened:
                os.close(self._result)
                os.close(self._old_log)
                if run_record.read_result(self.run) is not None:
                    remove_tree(self._state)
                super().close()

    def _read_result(self) -> Result | None:
        words = os.pread(self._result, _RESULT_LENGTH, 0).split()
        if len(words) != 5 or words[0] != b"exit" or words[4] != b"end":
            return None
        try:
            code, ended = int(words[1]), int(words[3])
        except ValueError:
            return None
        fits = -(1 << 31) <= code < 1 << 31 and 0 <= ended <= LATEST
        # Nothing says when that was but a clock that may have been set: its age counts from now.
        return Result.now(code)._replace(ended=ended) if fits else None

    def _copy_log(self) -> None:
        """Copies the whole records that are new, unless a thread does.  On a full disk they are copied next time."""
        if self.completed or not self._copying.acquire(blocking=False):
            return
        try:
            self._copy_records()
        finally:
            self._copying.release()

    def _copy_records(self) -> None:
        self._is_stuck = False
        while not self._closing and (found := self._next_records())[0]:
            records, copied = found
            end = os.fstat(self.log).st_size
            try:
                whole = os.write(self.log, records) == len(records)
            except OSError:
                whole = False
            if not whole:
                os.ftruncate(self.log, end)
                break
            self._copied += copied
        self._is_stuck = True

    def _next_records(self) -> tuple[bytes, int]:
        """Returns records in today's form, and how many bytes of the old log they stand for."""
        data = os.pread(self._old_log, _PIECE + LONGEST_BODY, self._copied)
        records: list[bytes] = []
        position = 0
        while position < _PIECE and (end := data.find(b"\n", position, position + _LONGEST_LINE)) >= 0:
            kind, _, rest = data[position:end].partition(b" ")
            occurred, _, length = rest.partition(b" ")
            if kind not in KINDS or not (occurred.isdigit() and length.isdigit()):
                break
            if int(length) > LONGEST_BODY or int(occurred) > LATEST:
                break
            body = data[end + 1 : end + 1 + int(length)]
            if data[end + 1 + int(length) : end + 2 + int(length)] != b"\n":
                break
            records.append(record(kind, int(occurred), body))
            position = end + 2 + int(length)
        return b"".join(records), position
