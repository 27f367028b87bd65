"""One run, watched over by a process of its own, from the claim to the result.

    claim -> bash starts -> output flows -> bash has ended and both pipes are closed -> result
                                 |
                              SIGTERM: everything is asked to end; after the grace, or at a second SIGTERM, everything
                              is killed -> result -1

The process is forked off the nursery, leads a session of its own and needs nobody: the agent may die and come back
as often as it likes.  All that it knows of the run came as one document on a descriptor, so that no secret of the
script's environment touches the disk or a command line.  When the script has ended of its own accord and has left
nobody behind, the process is as good as new, and offers itself for a further run.

Imported by the nursery: standard library only, and little of it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import signal
import sys
import time
from types import FrameType
from typing import Any, NoReturn, Protocol

from tentacle.scripts.shim import run_state
from tentacle.scripts.shim.log_format import DEBUG_ENTRY, ERR, ERR_ENTRY, OUT
from tentacle.scripts.shim.log_writer import Journal, now_ms
from tentacle.scripts.shim.namespaces import exit_code
from tentacle.scripts.shim.pipes import OutputPipes
from tentacle.scripts.shim.process_tree import terminate
from tentacle.scripts.shim.run_cgroup import RunGroup
from tentacle.scripts.shim.run_processes import Kin
from tentacle.scripts.shim.spawn import SHELL, start

FATAL, INVOCATION_ERROR, CANCELLED = -41, -42, -1
"""Exit codes that are not the script's own (tentacle-services.md 3.5)."""

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_CANCEL_TICK = 0.02
_LONGEST_KILL = 30.0
_STARTS = 3

_STDIN, _STDERR = 0, 2

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def name_process(name: str) -> None:
    """What `ps` and `top` call this process; at most 15 characters."""
    _prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


class Line(Protocol):
    """The way to the agent that has asked for this process."""

    def next(self) -> int | None:
        """Offers the process for a further run, whose document it gives; `None` when there will be none."""

    def hang_up(self) -> None:
        """Says that the process will not run anything any more."""


def run(document: int, line: Line, cgroup: str | None = None) -> NoReturn:
    """Runs what the document on descriptor `document` describes, in the calling process, and ends the process.

    As long as nothing stands against it, `line` is asked for a further one first.  `cgroup` is that in which the
    process has been born.

    The caller has blocked SIGTERM, so that a cancel that comes early is not lost, ignores the other signals that could
    end it, and has no standard input or output.
    """
    _detach()
    group = None if cgroup is None else RunGroup.of(cgroup, inside=True)
    equipment = Equipment(group)
    following: int | None = document
    while following is not None:
        following = line.next() if _run_one(json.loads(_read_all(following)), equipment) else None
        if signal.SIGTERM in signal.sigpending():
            # Meant for the run before, or for this one, which has not begun yet: whoever asked will look after it.
            break
    # To leave a cgroup takes the kernel some milliseconds, for which nobody has to wait.
    line.hang_up()
    if group is not None and group.leave():
        group.remove()
    os._exit(0)


class Equipment:
    """What the process keeps from run to run: the cgroup in which it was born, if it was, and the pipes."""

    def __init__(self, birthplace: RunGroup | None) -> None:
        self.birthplace = birthplace
        self._pipes: OutputPipes | None = None

    def pipes(self, state: int) -> OutputPipes:
        """Made in the state directory of the first run."""
        self._pipes = self._pipes or OutputPipes(state)
        return self._pipes


def _run_one(spec: dict[str, Any], equipment: Equipment) -> bool:
    """Runs what `spec` describes, if nobody else does or did; true when this process is as good as new afterwards."""
    state = os.open(spec["state"], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    # Locked as long as it is open: that tells everybody that somebody watches over the run.
    result = run_state.claim(state)
    if result is None:
        return False
    if equipment.birthplace is not None:
        run_state.note_cgroup(result, equipment.birthplace.directory)
    clean = _run_claimed(spec, state, result, equipment)
    os.close(result)
    os.close(state)
    return clean


def _read_all(descriptor: int) -> bytes:
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    return data


def _detach() -> None:
    os.setsid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    name_process("tentacle-run")
    # Nobody who waits for the agent's own output to end should wait for a script.
    os.dup2(_STDIN, _STDERR, inheritable=False)


def _run_claimed(spec: dict[str, Any], state: int, result: int, equipment: Equipment) -> bool:
    log = os.open(spec["log"], os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW)
    journal, code = Journal(log), FATAL
    try:
        journal.write([(DEBUG_ENTRY, text.encode("utf-8", "replace")) for text in spec["preamble"]])
        supervisor = Supervisor(spec, journal, equipment.pipes(state), equipment.birthplace)
        code = supervisor.run()
    finally:
        failure = sys.exc_info()[1]
        if failure is not None:
            journal.entry(ERR_ENTRY, f"Tentacle lost control of this script: {type(failure).__name__}: {failure}")
        _finish(spec, journal, result, code)
    clean = supervisor.close() and not journal.lost
    os.close(log)
    return clean


def _finish(spec: dict[str, Any], journal: Journal, result: int, code: int) -> None:
    line = f"Process {SHELL} in {spec['workspace']} exited with code {code}"
    # Tried first: the last output may just have fitted, and this line be the first that does not.
    if not journal.entry(DEBUG_ENTRY, line):
        run_state.give_back_reserve(result)
        journal.entry(DEBUG_ENTRY, line)
    run_state.write_result(result, code, now_ms())


class _NotStartedError(Exception):
    """The script could not be started, for the reason given."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


class Supervisor:
    """Starts bash, moves its output into the journal, and knows when it is over."""

    def __init__(self, spec: dict[str, Any], journal: Journal, pipes: OutputPipes, birthplace: RunGroup | None) -> None:
        self._spec = spec
        self._birthplace = birthplace
        self._journal = journal
        self._pipes = pipes
        self._cancels = 0
        self._kill_at = 0.0
        self._asked: set[int] = set()
        self._group: RunGroup | None = birthplace
        self._kin = Kin(os.getpid(), spec["mark"])
        self._bash = 0
        self._told: int | None = None
        self._exit_code: int | None = None
        self._poll = select.epoll()
        self._wake, self._wake_writer = self._listen_to_signals()
        for reader in pipes.begin():
            self._poll.register(reader, select.EPOLLIN)

    def run(self) -> int:
        """The exit code, after the last byte of output is in the journal."""
        try:
            if not self._cancels:
                self._start()
            return self._watch()
        except _NotStartedError as error:
            self._tell_start_failure(error.reason)
            return INVOCATION_ERROR
        finally:
            self._leave_group()

    def close(self) -> bool:
        """Gives back all that the run has taken; true when it has left nothing that a further run could notice."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.set_wakeup_fd(-1)
        self._poll.close()
        os.close(self._wake)
        os.close(self._wake_writer)
        self._pipes.close_writers()
        if self._cancels or self._pipes.open or self._exit_code is None or self._told is not None:
            return False
        return not self._reap() and (self._birthplace is None or self._birthplace.pids() == [os.getpid()])

    def _start(self) -> None:
        for attempt in range(1, _STARTS + 1):
            try:
                self._make_group()
                started = start(self._spec, self._pipes.writers, self._group)
            except OSError as error:
                # An agent that sweeps up may have taken the cgroup away while nobody was in it yet.
                swept = self._group is not None and error.errno in (errno.ENOENT, errno.ENODEV)
                if not swept or attempt == _STARTS:
                    raise _NotStartedError(error) from error
            else:
                break
        if started.told is None:
            self._bash = started.pid
        else:
            self._told = started.told
            self._poll.register(self._told, select.EPOLLIN)

    def _make_group(self) -> None:
        document, user = self._spec.get("group"), self._spec.get("user")
        if document and self._birthplace is None:
            self._group = RunGroup(document)
            try:
                self._group.make()
            except OSError:
                # Without limits to keep, it would only have made a cancel quicker.
                if document["limits"]:
                    raise
                self._group = None
        self._kin = Kin(os.getpid(), self._spec["mark"], self._group, user["uid"] if user else None)

    def _leave_group(self) -> None:
        if self._group is not None and self._birthplace is None:
            for line in self._group.met_limits():
                self._journal.entry(ERR_ENTRY, line)
            self._group.remove()

    def _watch(self) -> int:
        self._pipes.close_writers()
        over = False
        while not over:
            self._poll.poll(_CANCEL_TICK if self._cancels else None)
            self._drop_wake_ups()
            self._reap()
            self._listen()
            self._move_output()
            over = self._cancel() if self._cancels else self._exit_code is not None and not self._pipes.open
        return self._end_of_cancel() if self._cancels else self._exit_code or 0

    def _tell_start_failure(self, error: OSError) -> None:
        reason = f"Error when attempting to execute {SHELL}: {error.strerror}"
        self._journal.entry(ERR_ENTRY, f"An exception was thrown when invoking {SHELL}: {reason}")
        self._journal.entry(ERR_ENTRY, f"{type(error).__name__}: {error}")

    def _listen_to_signals(self) -> tuple[int, int]:
        """Makes signals wake the poll; gives the pipe that tells it, whose reading end must then be emptied."""
        wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, self._on_terminate)
        self._poll.register(wake, select.EPOLLIN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return wake, wake_writer

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        if not self._cancels:
            self._kill_at = time.monotonic() + float(self._spec["grace"])
        self._cancels += 1

    def _drop_wake_ups(self) -> None:
        try:
            os.read(self._wake, 4096)
        except BlockingIOError:
            return

    def _reap(self) -> bool:
        """Takes in every child that has ended: bash, and the orphans that this process has adopted.

        True while there are others that have not ended.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._bash:
                code = os.waitstatus_to_exitcode(status)
                self._exit_code = code if code >= 0 else 128 - code

    def _listen(self) -> None:
        """What the first process of the script's namespace tells of bash, or its silence when it was killed."""
        if self._told is None:
            return
        try:
            message = os.read(self._told, 64)
        except BlockingIOError:
            return
        os.close(self._told)
        self._told = None
        self._exit_code = exit_code(message)

    def _move_output(self) -> None:
        pieces, ended = self._pipes.collect()
        for reader in ended:
            self._poll.unregister(reader)
        if pieces:
            self._journal.write(pieces)

    def _cancel(self) -> bool:
        """One step of the cancel; true when nothing is left that could run."""
        living = self._kin.near() or self._kin.everybody()
        terminate(pid for pid in living if pid not in self._asked)
        self._asked.update(living)
        if living and (self._cancels > 1 or time.monotonic() >= self._kill_at):
            for pid in self._kin.kill(self._reap, _LONGEST_KILL):
                self._journal.entry(ERR_ENTRY, f"Failed to kill the launched process and its children: {pid}")
            return True
        return not living

    def _end_of_cancel(self) -> int:
        """Takes what the pipes still hold, whoever else may keep them open, and ends both streams."""
        self._reap()
        self._move_output()
        self._journal.write([(OUT, b""), (ERR, b"")])
        return CANCELLED
