"""The shim: one process that watches one run at a time, from the claim to the result.

    claim -> bash starts -> output flows -> bash has ended and both pipes are closed -> result
                                 |
                              SIGTERM: every process is asked to end; after the grace, or at a second SIGTERM, every
                              process is killed -> result -1

The fork server forks it.  It leads a session of its own and does not depend on the agent, which may die and come back
at any time.  When its script has ended without a cancel and has left no process behind, it asks for a further run.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import sys
import time
from types import FrameType
from typing import NoReturn, Protocol

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.scripts.shim import run_record
from tentacle.scripts.shim.file_flags import free
from tentacle.scripts.shim.inherited import InheritedState, cgroup_state, process_state
from tentacle.scripts.shim.log_format import DEBUG_ENTRY, ERR, ERR_ENTRY, OUT
from tentacle.scripts.shim.log_writer import LogWriter, open_log
from tentacle.scripts.shim.pipes import OutputPipes
from tentacle.scripts.shim.process_tree import terminate
from tentacle.scripts.shim.run_cgroup import RunCgroup
from tentacle.scripts.shim.run_order import RunOrder
from tentacle.scripts.shim.run_processes import RunProcesses, unkillable
from tentacle.scripts.shim.spawn import SHELL, start
from tentacle.scripts.shim.title import ProcessTitle
from tentacle.scripts.shim.write_order import WriteWatch

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_CANCEL_TICK = 0.02
_LONGEST_KILL = 30.0
_STARTS = 3

_NAME = "tentacle-shim"
_STDIN, _STDERR = 0, 2

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def name_process(name: str) -> None:
    """Sets the name of this process in `ps` and `top`; at most 15 characters."""
    _prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


class AgentConnection(Protocol):
    """The connection to the agent that has requested this process."""

    def next_order(self) -> int | None:
        """Reports that the process is free; returns a descriptor of the next order, `None` when none will come."""

    def close(self) -> None:
        """Tells the agent that the process takes no further run."""


def run(order: int, agent: AgentConnection, intact: InheritedState, cgroup: str | None = None) -> NoReturn:
    """Carries out the order on descriptor `order` in the calling process, then ends the process.

    While the process is clean after a run, it asks `agent` for a further order first.  `cgroup` is the cgroup that the
    process was born in.  `intact` is the state that the fork server was started with: when a script has changed that,
    the fork server is ended too, and the agent, which finds the run not begun, starts another one.

    The caller has blocked SIGTERM, so that a cancel that comes early is not lost, ignores the other signals that could
    end it, and has no standard input or output.
    """
    os.setsid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    name_process(_NAME)
    title = ProcessTitle()
    # A reader that waits for the end of the agent's own output should not wait for a script.
    os.dup2(_STDIN, _STDERR, inheritable=False)
    shared_cgroup = None if cgroup is None else RunCgroup.of(cgroup, inside=True)
    watch = WriteWatch()
    inside = None if shared_cgroup is None else shared_cgroup.directory
    if process_state() != intact:
        os.kill(os.getppid(), signal.SIGKILL)
        os._exit(1)
    shared_state = cgroup_state(inside)
    following: int | None = order
    while following is not None:
        data = os.pread(following, os.fstat(following).st_size, 0)
        os.close(following)
        decoded = RunOrder.decode(data)
        ticket = decoded.workspace.rpartition("/")[2]
        title.show(f"{_NAME} {ticket}")
        clean = _run_one(decoded, watch, intact, shared_cgroup)
        title.show(f"{_NAME} (waits for a script)")
        clean = clean and process_state() == intact and cgroup_state(inside) == shared_state
        following = agent.next_order() if clean else None
        if signal.SIGTERM in signal.sigpending():
            # For the last run, or for the next one, which has not begun: the agent examines it and launches it again.
            break
    # Leaving a cgroup takes the kernel some milliseconds, so the agent is told first.
    agent.close()
    if shared_cgroup is not None and shared_cgroup.leave():
        shared_cgroup.remove()
    os._exit(0)


def _run_one(order: RunOrder, watch: WriteWatch, intact: InheritedState, shared_cgroup: RunCgroup | None) -> bool:
    """Carries out `order` unless its run is claimed; returns whether this process is clean afterwards."""
    record = run_record.claim(order.run)
    if record is None:
        return False
    if shared_cgroup is not None:
        run_record.note_cgroup(record, shared_cgroup.directory)
    try:
        log = open_log(order.log)
    except OSError as error:
        reason = f"Tentacle cannot write the log of this script: {error.strerror}"
        run_record.write_result(record, run_record.Result.now(ScriptExitCode.FATAL, kind=ERR_ENTRY, reason=reason))
        return False
    writer = LogWriter(log)
    try:
        writer.write([(DEBUG_ENTRY, text.encode("utf-8", "replace")) for text in order.preamble])
        supervisor = Supervisor(order, writer, watch, intact, shared_cgroup)
        code = supervisor.run()
    finally:
        failure = sys.exc_info()[1]
        if failure is not None:
            # Without a result the agent knows that it must look after what still runs, before it frees the mutex.
            writer.entry(ERR_ENTRY, f"Tentacle lost control of this script: {type(failure).__name__}: {failure}")
    logged = writer.entry(DEBUG_ENTRY, f"Process {SHELL} in {order.workspace} exited with code {code}")
    unlogged = "" if logged else f"Process {SHELL} exited with code {code}"
    cpu, memory = int(supervisor.cpu * 1000), supervisor.memory
    result = run_record.Result.now(code, lost=writer.lost, kind=DEBUG_ENTRY, reason=unlogged, cpu=cpu, memory=memory)
    try:
        run_record.write_result(record, result)
    except OSError:
        # The script may have forbidden this process to write, or everybody to write this file.
        intact.restore_limits()
        free(record)
        run_record.write_result(record, result)
    clean = supervisor.close() and not writer.lost
    os.close(log)
    # This releases the lock, by which the agent sees that a shim watches the run.
    os.close(record)
    return clean


class _NotStartedError(Exception):
    """The script could not be started; `reason` is the error."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


class Supervisor:
    """Starts bash, moves its output into the log, waits for the end or carries out a cancel."""

    def __init__(
        self,
        order: RunOrder,
        log: LogWriter,
        watch: WriteWatch,
        intact: InheritedState,
        shared_cgroup: RunCgroup | None,
    ) -> None:
        self._order = order
        self._intact = intact
        self._shared_cgroup = shared_cgroup
        self._log = log
        self._pipes = OutputPipes(watch)
        self._cancels = 0
        self._kill_at = 0.0
        self._asked: set[int] = set()
        self._cgroup: RunCgroup | None = shared_cgroup
        self._processes = RunProcesses(os.getpid(), order.mark)
        self._bash = 0
        self._exit_code: int | None = None
        self.cpu = 0.0
        """Seconds that the processes have used that have ended, with their children."""
        self.memory = 0
        """Kibibytes that the largest of them had."""
        self._poll = select.epoll()
        self._wake, self._wake_writer = self._listen_to_signals()
        for reader in self._pipes.readers:
            self._poll.register(reader, select.EPOLLIN)

    def run(self) -> int:
        """Returns the exit code, after the last byte of output is in the log."""
        try:
            if not self._cancels:
                self._start()
            code = self._watch()
            if self._order.uid is not None and self._reap():
                # Another script is going to have this user.
                self._kill_all()
            return code
        except _NotStartedError as error:
            reason = f"Error when attempting to execute {SHELL}: {error.reason.strerror}"
            self._log.entry(ERR_ENTRY, f"An exception was thrown when invoking {SHELL}: {reason}")
            self._log.entry(ERR_ENTRY, f"{type(error.reason).__name__}: {error.reason}")
            return ScriptExitCode.INVOCATION_ERROR
        finally:
            if self._cgroup is not None and self._shared_cgroup is None:
                for line in self._cgroup.met_limits():
                    self._log.entry(ERR_ENTRY, line)
                self._cgroup.remove()

    def close(self) -> bool:
        """Releases what the run used; returns whether it has left nothing that a further run could notice."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.set_wakeup_fd(-1)
        self._poll.close()
        os.close(self._wake)
        os.close(self._wake_writer)
        still_open = self._pipes.open
        self._pipes.close()
        if self._cancels or still_open or self._exit_code is None:
            return False
        return not self._reap() and (self._shared_cgroup is None or self._shared_cgroup.pids() == [os.getpid()])

    def _start(self) -> None:
        for attempt in range(1, _STARTS + 1):
            try:
                self._make_cgroup()
                self._bash = start(self._order, self._pipes.writers, self._cgroup)
            except OSError as error:
                # A sweep of the agent may have removed the cgroup while it was still empty.
                swept = self._cgroup is not None and error.errno in (errno.ENOENT, errno.ENODEV)
                if not swept or attempt == _STARTS:
                    raise _NotStartedError(error) from error
            else:
                break
        self._processes.leader = self._bash

    def _make_cgroup(self) -> None:
        wanted = self._order.cgroup
        if wanted is not None and wanted.directories and self._shared_cgroup is None:
            self._cgroup = RunCgroup(wanted)
            try:
                self._cgroup.make()
            except OSError:
                # Without limits, the cgroup would only make a cancel faster.
                if wanted.limits:
                    raise
                self._cgroup = None
        self._processes = RunProcesses(os.getpid(), self._order.mark, self._cgroup, self._order.uid)

    def _watch(self) -> int:
        self._pipes.close_writers()
        over = False
        while not over:
            self._poll.poll(_CANCEL_TICK if self._cancels else None)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
            self._reap()
            self._move_output()
            over = self._cancel_step() if self._cancels else self._exit_code is not None and not self._pipes.open
        if not self._cancels:
            return self._exit_code or 0
        # What the pipes still hold, even if another process keeps them open; then both streams end.
        self._reap()
        self._move_output()
        self._log.write([(OUT, b""), (ERR, b"")])
        return ScriptExitCode.CANCELLED_WHILE_RUNNING

    def _listen_to_signals(self) -> tuple[int, int]:
        """Makes signals wake the poll; returns the two ends of the pipe that does it, which must be read empty."""
        wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, self._on_terminate)
        self._poll.register(wake, select.EPOLLIN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return wake, wake_writer

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        if not self._cancels:
            # To find processes, this one must be able to open files.
            self._intact.restore_limits()
            self._kill_at = time.monotonic() + self._order.grace
        self._cancels += 1

    def _reap(self) -> bool:
        """Reaps every child that has ended: bash, and the orphans that this process has adopted.

        Returns whether there are others that have not ended.
        """
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self.cpu += usage.ru_utime + usage.ru_stime
            self.memory = max(self.memory, usage.ru_maxrss)
            if pid == self._bash:
                code = os.waitstatus_to_exitcode(status)
                self._exit_code = code if code >= 0 else 128 - code

    def _move_output(self) -> None:
        pieces, ended = self._pipes.collect()
        for reader in ended:
            self._poll.unregister(reader)
        if pieces:
            self._log.write(pieces)

    def _cancel_step(self) -> bool:
        """Takes one step of the cancel; returns whether no process is left."""
        living = self._processes.find_fast() or self._processes.find_all()
        terminate(pid for pid in living if pid not in self._asked)
        self._asked.update(living)
        if living and (self._cancels > 1 or time.monotonic() >= self._kill_at):
            self._kill_all()
            return True
        return not living

    def _kill_all(self) -> None:
        for pid in self._processes.kill(self._reap, _LONGEST_KILL):
            self._log.entry(ERR_ENTRY, unkillable(pid))
