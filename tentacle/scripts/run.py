"""One run, from admission to the end, as the agent sees it.

    waiting --> launching --> running --> ended
       |            |                       ^
       +------------+-----------------------+     cancelled or timed out while waiting; could not be started

Waiting for the lock belongs to the agent; running belongs to the runner process, and what the agent knows of it comes
from the run's files alone.  So a run that an earlier agent started enters at `running`, one that it only prepared at
`waiting`, and neither is ever started twice.
"""

from __future__ import annotations

import asyncio
import enum
import json
import logging
import os
import pwd
import stat
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tentacle.contracts.script import ProcessState, ScriptExitCode
from tentacle.errors import one_line
from tentacle.masking import Mask
from tentacle.scripts.arguments import argument_vector
from tentacle.scripts.errors import LaunchError, ScriptError
from tentacle.scripts.launch.shim_pool import Watcher, terminate
from tentacle.scripts.mutexes import Lease, Mutexes, WaitCancelledError, WaitTimedOutError
from tentacle.scripts.output.reader import LogReader, Page
from tentacle.scripts.sandbox.sandbox import Sandbox
from tentacle.scripts.shim.run_state import STATE
from tentacle.scripts.workspace.run_files import LOG_FILE, SCRIPT_FILE, RunFiles, Stage, preamble

log = logging.getLogger(__name__)

LOST = (
    "Tentacle does not know how this script ended: it was started, but neither it nor a result of it is to be found. "
    "The machine, or the process that watched over the script, has been stopped in between."
)
_LAUNCHES = 3
_LOOK_AGAIN = 0.2
_READ_IN_PLACE = 256 * 1024


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


class Launch(Protocol):
    def __call__(self, document: bytes, cgroup: str, *, fresh: bool) -> Coroutine[Any, Any, Watcher]: ...


@dataclass(frozen=True)
class Means:
    """What every run of an agent needs.  `environment` is that of the scripts; `cancel_grace` is in seconds.

    `mask` makes the mask for a log from the run's ticket and its sealed passwords.
    """

    launch: Launch
    mutexes: Mutexes
    environment: Mapping[str, str] = field(repr=False)
    cancel_grace: float
    line_limit: int
    mask: Callable[[str, str], Mask | None]
    sandbox: Sandbox


class Run:
    """Owns the run's files, its task and its lock."""

    def __init__(self, files: RunFiles, means: Means) -> None:
        self.files = files
        self.step = Step.WAITING
        self.exit_code = 0
        self.ended = asyncio.Event()
        self._means = means
        self._reader = LogReader(means.line_limit, means.mask(files.settings.ticket, files.settings.sealed))
        self._cancelled = asyncio.Event()
        self._forgotten = False
        self._terminate: Callable[[], None] | None = None
        """Asks the process that watches over the script to end it, while there is one."""
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> ProcessState:
        return _STATES[self.step]

    def begin(self) -> None:
        """Waits for the lock, then starts the script, in a task of its own."""
        self._spawn(self._from_waiting())

    def adopt(self) -> None:
        """Goes on with a script that is running: it has its lock at once."""
        self.step = Step.RUNNING
        self._means.sandbox.renew(self.files)
        self._spawn(self._locked(self._means.mutexes.hold(self.files.settings.wants)))

    def show(self, exit_code: int) -> None:
        """Stands for a run that has ended before."""
        self._end(exit_code)

    def cancel(self) -> None:
        """Ends the wait, or asks the runner to end the script; nothing when it has ended.  Again: nothing new."""
        if not self._cancelled.is_set():
            self._cancelled.set()
            if self._terminate is not None:
                self._terminate()

    def forget(self) -> None:
        """Nobody will ask for the log any more; the script, if it runs, runs on and keeps its lock."""
        self._forgotten = True
        if self.step is Step.ENDED:
            self.files.close()

    async def abandon(self) -> None:
        """Lets go: the script, if it runs, runs on; if it waits, it will not be started by us."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self.files.close()
        # Whoever waits for the end gets the state as it is.
        self.ended.set()

    async def page(self, after: int, page_bytes: int) -> Page:
        """The entries after number `after`.  A long way through the log is gone in a thread."""
        ended = self.step is Step.ENDED
        descriptor = self._open_log()
        try:
            if self._reader.unread(descriptor, after) <= _READ_IN_PLACE:
                return self._reader.read(descriptor, after, page_bytes, ended=ended)
            return await asyncio.to_thread(self._reader.read, descriptor, after, page_bytes, ended=ended)
        finally:
            os.close(descriptor)

    def _open_log(self) -> int:
        """The log, to be closed by the caller: the files may be closed while a thread still reads."""
        if self.files.opened:
            return os.dup(self.files.log)
        try:
            log = os.open(self.files.workspace / LOG_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return os.open(os.devnull, os.O_RDONLY)
        if stat.S_ISREG(os.fstat(log).st_mode):
            return log
        # A pipe, say, which what a script has left behind can put there.
        os.close(log)
        return os.open(os.devnull, os.O_RDONLY)

    def _spawn(self, life: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(life)
        self._task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("Lost control of script %s: %s", self.files.settings.ticket, one_line(failure))
            self._end(ScriptExitCode.FATAL)

    def _end(self, exit_code: int) -> None:
        # The code first: whoever sees the end must see the code.
        self.exit_code = exit_code
        self.step = Step.ENDED
        if self._forgotten or self.files.has_name():
            self.files.close()
        self.ended.set()

    async def _from_waiting(self) -> None:
        settings = self.files.settings
        try:
            lease = await self._means.mutexes.enter(
                settings.wants,
                timeout=settings.timeout,
                cancelled=self._cancelled,
                say=lambda lines: self.files.say(*lines),
            )
        except WaitCancelledError:
            self._end(self._unstarted(ScriptExitCode.CANCELLED, "Script execution canceled."))
        except WaitTimedOutError:
            self._end(self._unstarted(ScriptExitCode.TIMEOUT, "Script execution timed out."))
        else:
            self.step = Step.LAUNCHING
            await self._locked(lease)

    def _unstarted(self, exit_code: int, line: str) -> int:
        self.files.say(line)
        self.files.end(exit_code)
        return exit_code

    async def _locked(self, lease: Lease) -> None:
        """Follows the run to its end, whoever started it, and gives the lock back."""
        try:
            self._end(await self._follow())
        except (ScriptError, OSError) as error:
            log.error("Script %s could not be started: %s", self.files.settings.ticket, one_line(error))
            reason = f"An exception was thrown when invoking /bin/bash: {one_line(error)}"
            self.files.end(ScriptExitCode.INVOCATION_ERROR, reason)
            self._end(ScriptExitCode.INVOCATION_ERROR)
        finally:
            lease.release()

    async def _follow(self) -> int:
        """The exit code, after as many looks at the files as it takes."""
        launches = 0
        while True:
            found = self.files.examine()
            if found.stage is Stage.ENDED:
                return found.exit_code
            if found.stage is Stage.RUNNING:
                self.step = Step.RUNNING
                await self._until_gone(found.pid)
            elif found.stage is Stage.LOST:
                return await self._give_up_lost()
            elif self._cancelled.is_set():
                return self._unstarted(ScriptExitCode.CANCELLED, "Script execution canceled.")
            elif launches == _LAUNCHES:
                raise LaunchError("The process that watches over the script ends as soon as it is started")
            else:
                launches += 1
                await self._until_over(await self._launch(fresh=launches > 1))

    async def _give_up_lost(self) -> int:
        await asyncio.to_thread(self._means.sandbox.end_left, self.files)
        self.files.cut_log(await asyncio.to_thread(self._reader.readable_end, self.files.log))
        self.files.end(ScriptExitCode.UNKNOWN_RESULT, LOST)
        return ScriptExitCode.UNKNOWN_RESULT

    async def _document(self) -> bytes:
        """All that the runner must know; leaves this process in memory only."""
        workspace = self.files.workspace
        surroundings = await self._means.sandbox.document(self.files, self._means.environment)
        user = surroundings["user"]
        return json.dumps(
            {
                "workspace": str(workspace),
                "state": str(workspace / STATE),
                "log": str(workspace / LOG_FILE),
                "script": str(workspace / SCRIPT_FILE),
                "arguments": argument_vector(self.files.settings.arguments),
                "preamble": preamble(workspace, _user_name() if user is None else str(user["uid"])),
                "grace": self._means.cancel_grace,
                **surroundings,
            }
        ).encode()

    async def _launch(self, *, fresh: bool) -> Watcher:
        return await self._means.launch(await self._document(), self._means.sandbox.birthplace(), fresh=fresh)

    async def _until_over(self, watcher: Watcher) -> None:
        """Returns when the watcher that we have launched is done with the run; meanwhile a cancel reaches it."""
        try:
            await self._until(watcher.over, watcher.terminate)
        finally:
            # A cancel may be under way to it, and must not meet another run.
            watcher.let_go(clean=not self._cancelled.is_set())

    async def _until_gone(self, pid: int) -> None:
        """Returns when the process has ended that another agent has launched; meanwhile a cancel reaches it."""
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(process, gone.set)
        try:
            await self._until(gone, lambda: terminate(process))
        finally:
            loop.remove_reader(process)
            os.close(process)

    async def _until(self, over: asyncio.Event, ask_to_end: Callable[[], None]) -> None:
        self._terminate = ask_to_end
        try:
            if self._cancelled.is_set():
                ask_to_end()
            self.step = Step.RUNNING
            await over.wait()
        finally:
            self._terminate = None


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
