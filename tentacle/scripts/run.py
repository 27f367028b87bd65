"""One run, from the accepted request to the end, as the agent sees it.

    waiting --> launching --> running --> ended
       |            |                       ^
       +------------+-----------------------+     cancelled or timed out while waiting; could not be started

The agent waits for the mutex; the shim runs the script, and the agent learns of it from the run's files alone.  So a
run that an earlier agent started enters at `running`, one that it only prepared at `waiting`, and neither is ever
started twice.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import field
from typing import Any, Protocol

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState
from tentacle.errors import one_line
from tentacle.masking import Mask
from tentacle.records import dataclass
from tentacle.scripts.arguments import argument_vector
from tentacle.scripts.errors import LaunchError, ScriptError
from tentacle.scripts.launch.other_process import OtherProcess
from tentacle.scripts.launch.shim_guard import Send, ShimGuard
from tentacle.scripts.launch.shim_pool import Shim
from tentacle.scripts.mutexes import Lease, Mutexes, WaitCancelledError, WaitTimedOutError
from tentacle.scripts.output.pages import READ_IN_PLACE, Pages
from tentacle.scripts.output.reader import LogReader, Page
from tentacle.scripts.run_watch import RunWatch, Unwatched
from tentacle.scripts.sandbox.sandbox import Sandbox
from tentacle.scripts.shim.run_order import RunOrder
from tentacle.scripts.shim.run_processes import unkillable
from tentacle.scripts.shim.run_record import Result
from tentacle.scripts.workspace.run_files import RunFiles, Stage
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.validation import SCRIPT_FILE
from tentacle.trace_context import VARIABLE, Work, current_work, read_trace, working_for

log = logging.getLogger(__name__)

LOST = (
    "Tentacle does not know how this script ended: it was started, but neither it nor its result is to be found. "
    "The machine, or the process that watched over it, was stopped in between."
)
UNWATCHED_CANCEL = (
    "The process that watched over this script could not carry out the cancel. It was ended, with everything that the "
    "script had started."
)
ASKED_BY_OTHERS = (
    "The process that watches over this script was asked to end by a signal that did not come from Tentacle, so the "
    "script was cancelled."
)
_CANCELLED = ScriptExitCode.CANCELLED_WHILE_RUNNING
_LAUNCHES = 3
"""Bytes that pages share which come on top of two long ones; each of a few has as much as is read in place."""


class Step(enum.Enum):
    WAITING = "waiting"
    LAUNCHING = "launching"
    RUNNING = "running"
    ENDED = "ended"


_STATES = {
    Step.WAITING: ProcessState.PENDING,
    Step.LAUNCHING: ProcessState.RUNNING,
    Step.RUNNING: ProcessState.RUNNING,
    Step.ENDED: ProcessState.COMPLETE,
}


class LaunchShim(Protocol):
    def __call__(self, order: RunOrder, cgroup: str, *, fresh: bool) -> Coroutine[Any, Any, Shim]: ...


@dataclass(frozen=True)
class RunContext:
    """What all runs of an agent share.  `environment` is that of the scripts; `cancel_grace` is in seconds; `user` is
    the name of the agent's own user.

    `mask` returns the mask for a run's log from its ticket and its sealed passwords; `ended` is called at the end of
    each.
    """

    launch: LaunchShim
    mutexes: Mutexes
    environment: Mapping[str, str] = field(repr=False)
    user: str
    cancel_grace: float
    line_limit: int
    mask: Callable[[str, str], Mask | None]
    sandbox: Sandbox
    pages: Pages = field(default_factory=Pages)
    ended: Callable[[RunHeader, Result], object] = lambda _, __: None
    watch: RunWatch = field(default_factory=Unwatched)


class Run:
    """Owns the run's files, its task and the lease of its mutex."""

    def __init__(self, files: RunFiles, context: RunContext) -> None:
        self.files = files
        self.step = Step.WAITING
        self.result: Result | None = None
        self.ended = asyncio.Event()
        self.completed = asyncio.Event()
        """Set when the server has fetched what it wants of the result."""
        self._context = context
        self._reader = LogReader(context.line_limit, context.mask(files.header.ticket, files.header.sealed))
        self._cancelled = asyncio.Event()
        self.when_ended: Callable[[Run], None] = lambda _: None
        self._guard: ShimGuard | None = None
        """Looks after the shim; `None` while there is none."""
        self._given_up = False
        self._began: float | None = None
        """When it was let in, by the loop's clock; `None` for a run of an earlier agent."""
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> ProcessState:
        return _STATES[self.step]

    @property
    def may_be_shown(self) -> bool:
        """Whether its log can be masked; else every line of it is withheld."""
        return self._reader.masks

    @property
    def exit_code(self) -> int:
        """Valid once the run has ended."""
        return 0 if self.result is None else self.result.exit_code

    def start(self) -> None:
        """Waits for the mutex, then starts the script, in a task of its own."""
        self._spawn(self._wait_and_run())

    def adopt(self, *, holds_mutex: bool = True) -> None:
        """Follows a script that is running already; it gets its mutex without waiting.

        Without one, the script has ended, and only its files are behind.
        """
        self.step = Step.RUNNING
        self.restore_limits()
        lease = self._context.mutexes.hold(self.files.header.wants) if holds_mutex else None
        self._spawn(self._follow_with(lease))

    def restore_limits(self) -> None:
        """Sets the limits of a script again that runs on without the process that has started it."""
        if self.step is Step.RUNNING:
            self._context.sandbox.restore_limits(self.files)

    def mark_ended(self, result: Result) -> None:
        """Sets the result of a run that had ended before this agent was started."""
        self._end(result)

    def lose(self) -> Result:
        """Ends a run that was prepared before the machine went down; its log may be torn."""
        self.files.cut_log(self._reader.readable_end(self.files.log))
        return self.files.end(ScriptExitCode.UNKNOWN_RESULT, LOST)

    def cancel(self) -> None:
        """Ends the wait for the mutex, or asks the shim to end the script.  May be repeated."""
        if not self._cancelled.is_set():
            self._cancelled.set()
            if self._guard is not None:
                self._guard.cancel()

    async def detach(self) -> None:
        """Stops following the run.  A running script continues; a waiting one is not started by this agent."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        self.files.close()
        # Wakes the callers that wait for the end; they see the state as it is.
        self.ended.set()

    async def page(self, after: int, page_bytes: int) -> Page:
        """Returns the entries after number `after`.  Reads a long part of the log in a thread."""
        log = self.files.open_log()
        try:
            unread = self._reader.unread(log, after)
            size = self._context.pages.size(page_bytes)
            if unread <= READ_IN_PLACE:
                page = self._reader.read(log, after, size, ended=self.result)
            else:
                page = await asyncio.to_thread(self._reader.read, log, after, size, ended=self.result)
            self._context.pages.took(page.size)
            return page
        finally:
            os.close(log)

    def _spawn(self, life: Coroutine[Any, Any, None]) -> None:
        header = self.files.header
        work = Work(read_trace(header.trace), current_work().server, header.ticket)
        with working_for(work):
            self._task = asyncio.create_task(life)
        self._task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("Lost control of script %s: %s", self.files.header.ticket, one_line(failure))
            self._end(Result.now(ScriptExitCode.FATAL))

    def _end(self, result: Result) -> None:
        # The result first: a reader that sees the end must see the code.
        self.result = result
        self.step = Step.ENDED
        if self._task is not None:
            ran = None if self._began is None else asyncio.get_running_loop().time() - self._began
            self._context.watch.script_ended(result.exit_code, ran, self.files.log_size())
        self.files.close()
        self.ended.set()
        self.when_ended(self)
        self._context.ended(self.files.header, result)

    async def _wait_and_run(self) -> None:
        header = self.files.header
        asked = asyncio.get_running_loop().time()
        try:
            lease = await self._context.mutexes.acquire(
                header.wants,
                timeout=header.timeout,
                cancelled=self._cancelled,
                say=lambda lines: self.files.log_entries(*lines),
            )
        except WaitCancelledError:
            self._end(self._unstarted(ScriptExitCode.CANCELLED, "Script execution canceled."))
        except WaitTimedOutError:
            self._end(self._unstarted(ScriptExitCode.TIMEOUT, "Script execution timed out."))
        else:
            self.step = Step.LAUNCHING
            self._began = asyncio.get_running_loop().time()
            log.debug("Script %s begins", header.ticket)
            self._context.watch.script_began(self._began - asked)
            await self._follow_with(lease)

    def _unstarted(self, exit_code: int, line: str) -> Result:
        self.files.log_entries(line)
        return self.files.end(exit_code)

    async def _follow_with(self, lease: Lease | None) -> None:
        """Follows the run to its end, then releases the mutex; not when another agent is to follow it from now on."""
        try:
            self._end(await self._follow())
        except (ScriptError, OSError) as error:
            log.error("Script %s could not be started: %s", self.files.header.ticket, one_line(error))
            reason = f"An exception was thrown when invoking /bin/bash: {one_line(error)}"
            self._end(self.files.end(ScriptExitCode.INVOCATION_ERROR, reason))
        except asyncio.CancelledError:
            # The script runs on, so whoever waits for its mutex must not be let in.
            lease = None
            raise
        finally:
            if lease is not None:
                lease.release()

    async def _follow(self) -> Result:
        """Examines the files, launches or waits, and repeats that until there is a result; returns it."""
        launches = 0
        while self.files.lags:
            await asyncio.to_thread(self.files.catch_up)
        while True:
            found = self.files.examine()
            if found.result is not None:
                cancelled = found.result.exit_code == _CANCELLED
                if self._given_up and self._cancelled.is_set() and not cancelled:
                    # Its tracer, say, kept it from stopping, and then it saw the script that was killed here end.
                    return self.files.end(_CANCELLED, UNWATCHED_CANCEL)
                if launches and cancelled and not self._cancelled.is_set():
                    self.files.log_errors(ASKED_BY_OTHERS)
                return found.result
            if found.stage is Stage.RUNNING:
                self.step = Step.RUNNING
                await self._wait_for_process(found.pid)
            elif found.stage is Stage.LOST:
                return await self._lost()
            elif self._cancelled.is_set() or self.files.completed:
                return self._unstarted(ScriptExitCode.CANCELLED, "Script execution canceled.")
            elif launches == _LAUNCHES:
                raise LaunchError("The process that watches over the script ends as soon as it is started")
            else:
                launches += 1
                shim = await self._launch(fresh=launches > 1)
                try:
                    await self._wait_until(shim.finished, shim.pid, shim.send)
                finally:
                    # A cancel may still be on its way to the shim, and must not end another run.
                    shim.release(clean=not self._cancelled.is_set())

    async def _lost(self) -> Result:
        """Ends a run whose shim has died, after everything that its script has started."""
        left = await asyncio.to_thread(self._context.sandbox.kill_remaining, self.files)
        self.files.cut_log(await asyncio.to_thread(self._reader.readable_end, self.files.log))
        self.files.log_errors(*map(unkillable, left))
        if self._cancelled.is_set():
            return self.files.end(_CANCELLED, UNWATCHED_CANCEL)
        return self.files.end(ScriptExitCode.UNKNOWN_RESULT, LOST)

    async def _launch(self, *, fresh: bool) -> Shim:
        files, workspace = self.files, str(self.files.workspace)
        order = RunOrder(
            run=str(files.run_path),
            log=str(files.log_path),
            workspace=workspace,
            script=f"{workspace}/{SCRIPT_FILE}",
            arguments=argument_vector(files.header.arguments),
            environment=self._environment(),
            mark="",
            preamble=(),
            grace=self._context.cancel_grace,
        )
        order = await self._context.sandbox.order(files, order)
        user = self._context.user if order.uid is None else str(order.uid)
        # What the log says right before the script starts (docs/spec/services.md, "Log entries around a script"); all
        # debug entries.
        preamble = (
            "Executable directory is /bin",
            "Executable name or full path: /bin/bash",
            f"Starting /bin/bash in working directory '{workspace}' using 'Unicode (UTF-8)' encoding running as "
            f"'{user}'",
        )
        order = order._replace(preamble=preamble)
        return await self._context.launch(order, self._context.sandbox.shim_cgroup(), fresh=fresh)

    def _environment(self) -> dict[str, str]:
        trace = self.files.header.trace
        return {**self._context.environment, **({VARIABLE: trace} if trace else {})}

    async def _wait_for_process(self, pid: int) -> None:
        """Waits for the end of a shim that an earlier agent has launched.  Meanwhile a cancel reaches the shim."""
        process = OtherProcess.open(pid)
        if process is None:
            return

        def is_watched() -> bool:
            return self.files.examine().pid == pid

        gone = asyncio.Event()
        waiting = asyncio.create_task(process.wait(is_watched))
        waiting.add_done_callback(lambda _: gone.set())

        def send(number: signal.Signals) -> None:
            if process.is_safe or is_watched():
                process.send(number)

        try:
            await self._wait_until(gone, pid, send)
        finally:
            waiting.cancel()
            await asyncio.wait({waiting})
            process.close()

    async def _wait_until(self, over: asyncio.Event, shim: int, send: Send) -> None:
        """Waits until the shim has finished its run or is gone; meanwhile a cancel reaches it."""
        self._guard = guard = ShimGuard(
            shim,
            send,
            grace=self._context.cancel_grace,
            has_begun=self.files.is_claimed,
            give_up=lambda: self._give_up(shim, send),
        )
        try:
            if self._cancelled.is_set():
                guard.cancel()
            self.step = Step.RUNNING
            await over.wait()
        finally:
            self._guard = None
            guard.close()

    def _give_up(self, shim: int, send: Send) -> None:
        """Kills a shim that does nothing any more; it dies last, so that its script's processes are found."""
        self._given_up = True
        ticket = self.files.header.ticket
        log.warning("The process that watches over script %s does not react, so it is killed with its script", ticket)
        send(signal.SIGSTOP)
        ending = asyncio.get_running_loop().run_in_executor(
            None, self._context.sandbox.kill_remaining, self.files, shim
        )
        ending.add_done_callback(lambda _: send(signal.SIGKILL))
