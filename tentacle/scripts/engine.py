"""The engine's front door: start, status, cancel, complete, by ticket.

Knows what exists once per agent: the runs by ticket (case does not count, and a repeated start is the same run), the
runs that an earlier agent left, the refusal while the agent drains.  The life of a single run is in `run.py`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from tentacle import disk
from tentacle.contracts.script import ProcessOutput, ProcessOutputSource, ProcessState
from tentacle.errors import TentacleError, one_line
from tentacle.home_layout import MASK_KEY
from tentacle.masking import Mask
from tentacle.scripts.census import Census, LeftResults
from tentacle.scripts.completed_runs import CompletedRuns
from tentacle.scripts.errors import DamagedRunError, InvalidTicketError, ScriptError
from tentacle.scripts.launch.fork_server_client import ForkServerClient
from tentacle.scripts.launch.fork_servers import LauncherService, OwnForkServer
from tentacle.scripts.launch.shim_pool import ShimPool
from tentacle.scripts.mutexes import DEFAULT_MUTEX, Mutexes
from tentacle.scripts.obstacle import Obstacle
from tentacle.scripts.output.known_secrets import KnownSecrets
from tentacle.scripts.preparation import Preparation
from tentacle.scripts.recovery import Recovery
from tentacle.scripts.requests import EngineOptions, RunStatus, StartRequest
from tentacle.scripts.run import Run, RunContext
from tentacle.scripts.run_watch import RunWatch
from tentacle.scripts.sandbox.sandbox import Sandbox
from tentacle.scripts.shim.clock import now_ms
from tentacle.scripts.shim.run_record import Result
from tentacle.scripts.startup_check import check_host
from tentacle.scripts.workspace.run_files import ExaminedRun, RunFiles, Stage, run_name
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.validation import file_parts, require_arguments, require_ticket
from tentacle.scripts.workspace.workspaces import Workspaces, place_of

__all__ = ["EngineOptions", "RunStatus", "ScriptEngine", "StartRequest"]

log = logging.getLogger(__name__)

_SMALL_BODY = 256 * 1024
"""Characters; a longer script is written in a thread of its own."""
_FINISHED = "A script has run under this ticket before, and its result was fetched: nothing is run again."


class ScriptEngine:
    """Runs scripts below `work`; use from one event loop, one engine per directory.

    `environment` is added to the agent's own for every script; a value of `None` removes a variable.  `known` are the
    sensitive values that the agent knows; `watch` gets each mask made of them.
    """

    def __init__(
        self,
        work: Path,
        *,
        environment: Mapping[str, str | None] | None = None,
        options: EngineOptions | None = None,
        known: Iterable[str] = (),
        watch: Callable[[Mask], None] = lambda _: None,
    ) -> None:
        self.options = options or EngineOptions()
        # A symbolic link on the way may lie where a script in its sandbox cannot see it.
        self.workspaces = Workspaces(place_of(work))
        self.secrets = KnownSecrets(known, self.workspaces.work / MASK_KEY, watch)
        wanted: dict[str, str | None] = {**os.environ, **(environment or {})}
        variables = {name: value for name, value in wanted.items() if value is not None}
        # A script may be able to read the environment of its parent process, so that holds nothing secret.
        own = {name: value for name, value in os.environ.items() if name in variables}
        launcher = self.options.launcher
        server = OwnForkServer(environment=own) if launcher is None else LauncherService(launcher)
        self._fork_server = ForkServerClient(server, self._on_new_launcher)
        self._shims = ShimPool(self._fork_server)
        self._context = RunContext(
            launch=self._shims.launch,
            mutexes=Mutexes(self.options.busy_after, self.options.busy_every),
            environment=variables,
            user=disk.user_name(os.geteuid()),
            cancel_grace=self.options.cancel_grace,
            line_limit=self.options.line_limit,
            mask=self.secrets.mask,
            sandbox=Sandbox(self.workspaces.work, self.options.sandbox),
        )
        self._preparation = Preparation(self.workspaces, self._context.sandbox, self._fork_server)
        self.completed = CompletedRuns(self.workspaces, self._context.sandbox)
        self.recovery = Recovery(self.workspaces, self.completed, self._context.sandbox, self._take_over)
        self.obstacle = Obstacle(self.workspaces)
        self.left = LeftResults(self.workspaces.runs)
        self._runs: dict[str, Run] = {}
        """By the name of the run's files, as `_starting`."""
        self._starting: dict[str, asyncio.Task[Run | int]] = {}
        self.refusal: TentacleError | None = None  # the answer to requests for new scripts

    def report_to(self, ended: Callable[[RunHeader, Result], object], runs: RunWatch) -> None:
        """Tells `ended` of each run's end, of some repeatedly, and has `runs` measure; called before `start`."""
        self._context = replace(self._context, ended=ended, watch=runs)

    async def prepare(self) -> None:
        """Begins with `start`, for who has something else to do until the fork server is ready.  Raises as that."""
        await self._preparation.make()

    async def start(self) -> None:
        """Takes over the runs of an earlier agent, before any request about a script is answered.

        Raises `ScriptError` when scripts cannot be run here, or not in the sandbox that the options ask for.
        """
        await self._preparation.finish()
        # An earlier script may be the reason of an obstacle, and the agent must still answer.
        if (self.options.sandbox.asks or self.options.try_out) and await self.obstacle.look() is None:
            await check_host(self.workspaces, self._context)
        await self.recovery.start()

    def _take_over(self, runs: list[tuple[RunFiles, ExaminedRun]]) -> None:
        # In the order of the requests, but runs whose script runs first: they take their mutexes before others wait.
        for files, found in sorted(runs, key=lambda one: (one[1].stage is Stage.PREPARED, *one[0].header.order)):
            run = self._resume(files, found)
            if files.completed:
                self.completed.follow(run)
            else:
                self._runs[files.name] = run

    @property
    def launcher(self) -> int | None:
        """The process of another unit that starts the scripts; `None` where this agent does, or none is known."""
        return self._preparation.launcher

    async def _on_new_launcher(self, pid: int) -> None:
        """Where the controllers of cgroups were taken away between two launchers, limits went with them."""
        try:
            await asyncio.to_thread(self._context.sandbox.prepare_cgroups, pid)
        except ScriptError as error:
            log.error("%s %s", one_line(error), error.hint)
        for run in self.unended():
            run.restore_limits()

    async def aclose(self) -> None:
        """Stops following the runs and ends the fork server; scripts that run continue."""
        await self.recovery.aclose()
        for task in self._starting.values():
            task.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        await self.workspaces.aclose()
        # All at once: none is let in because another one waits no longer.
        await asyncio.gather(*(run.detach() for run in self._runs.values()))
        self._runs.clear()
        await self.completed.aclose()
        self._shims.close()
        await self._fork_server.aclose()

    async def start_script(self, request: StartRequest, wait: timedelta | None = None) -> RunStatus:
        """Starts the script, unless its ticket has a run already; returns its log from the beginning.

        With `wait` it returns when the script has ended or that time is over.  For a ticket that was completed in the
        last hour it returns the recorded exit code.  Raises `ScriptError` when the request cannot be carried out;
        nothing has run then.
        """
        name = run_name(require_ticket(request.ticket))
        starting = self._starting.get(name)
        if starting is None:
            starting = self._starting[name] = asyncio.create_task(self._admit(name, request))
            starting.add_done_callback(lambda task: self._on_admitted(name, task))
        run = await asyncio.shield(starting)
        if isinstance(run, int):
            entry = ProcessOutput(ProcessOutputSource.STD_OUT, now_ms(), _FINISHED)
            return RunStatus(ProcessState.COMPLETE, run, (entry,), 1)
        if wait is not None:
            await _until(wait.total_seconds(), run.ended)
        return await self._status(run, 0)

    async def status(self, ticket: str, after: int, most: int | None = None) -> RunStatus | None:
        """Returns the state and the entries after number `after`, or about `most` bytes of these.

        `None` for an unknown ticket.
        """
        run = await self.find(ticket)
        return None if run is None else await self._status(run, after, most)

    async def cancel(self, ticket: str, after: int) -> RunStatus | None:
        """Cancels the script, or its wait for the mutex; returns what `status` does.  May be repeated."""
        run = await self.find(ticket)
        if run is None:
            return None
        run.cancel()
        await _until(self.options.cancel_answer, run.ended)
        return await self._status(run, after)

    async def complete(self, ticket: str) -> None:
        """Forgets the run and removes its workspace.  Does not end a script that still runs."""
        try:
            name = run_name(require_ticket(ticket))
            run = await self.find(ticket)
        except InvalidTicketError:
            return
        except DamagedRunError:
            # Completing is the way to remove a damaged run.
            self.completed.complete_damaged(name, self.workspaces.work / ticket)
            return
        if run is not None:
            del self._runs[name]
            await self.completed.complete(run)
            run.completed.set()
        elif not self.completed.is_running(name):
            self.completed.remove(name, self.workspaces.work / ticket)

    def take_in(self, path: Path) -> None:
        """Lets scripts treat what the agent has written to `path` as their own, where they share that place."""
        self._context.sandbox.take_in(path)

    def discard(self, name: str, workspace: Path) -> list[Path]:
        """Forgets a run whose script does not run; returns the directories that the caller must remove.

        `name` is that of the run; for a foreign directory, the name that its run would have.
        """
        run = self._runs.pop(name, None)
        if run is not None:
            run.files.close()
        return self.completed.discard(name, workspace)

    def is_running(self, ticket: str) -> bool:
        """Returns whether a script was requested under the ticket and has not ended."""
        return self.is_live(run_name(ticket))

    def is_live(self, name: str) -> bool:
        """As `is_running`, by the name of the run.  A completed run counts until it has ended."""
        run = self._runs.get(name)
        return name in self._starting or self.completed.is_running(name) or (run is not None and not run.ended.is_set())

    def is_known(self, ticket: str) -> bool:
        """Returns whether the ticket has a run, a workspace, or was completed in the last hour."""
        name = run_name(ticket)
        left = self.completed.exit_code(name) is not None or self.workspaces.find(ticket) is not None
        return left or self.is_live(name) or self.workspaces.runs.exists(name)

    def running(self) -> tuple[str, ...]:
        """Returns the tickets of all scripts that have not ended."""
        return tuple(run.files.header.ticket for run in self.unended())

    def touch_running(self) -> None:
        """Touches the workspaces of all scripts that have not ended, so that foreign sweepers leave them alone."""
        for run in self.unended():
            self.workspaces.touch(run.files.workspace)

    async def drain(self, refusal: TentacleError, deadline: float | None) -> tuple[str, ...]:
        """Refuses new scripts with `refusal` from now on and waits for the running ones to end.

        `deadline` is in seconds; `None` waits for ever.  Returns the tickets of those that still run.
        """
        self.refusal = refusal
        return await self.wait_for_ends(deadline)

    async def cancel_all(self, deadline: float | None) -> tuple[str, ...]:
        """Cancels every script, also those that wait for their mutex; waits and returns as `drain` does."""
        for run in self.unended():
            run.cancel()
        return await self.wait_for_ends(deadline)

    async def wait_for_ends(self, deadline: float | None) -> tuple[str, ...]:
        """Waits until all scripts have ended that have been asked for by now, or for `deadline` seconds; as `drain`."""
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        await _until(deadline, *(run.ended for run in self.unended()))
        return self.running()

    async def wait_for_completes(self, deadline: float) -> tuple[str, ...]:
        """Waits until the server has completed what has not ended, or not before the last `deadline` seconds.

        Waits for so many seconds at most.  Returns the tickets of the others.
        """
        since = now_ms() - deadline * 1000
        owed = [run for run in self._runs.values() if run.result is None or run.result.ended > since]
        await _until(deadline, *(run.completed for run in owed))
        return tuple(run.files.header.ticket for run in owed if not run.completed.is_set())

    def unended(self) -> list[Run]:
        """Returns the runs that have not ended."""
        return [run for run in (*self._runs.values(), *self.completed.running) if not run.ended.is_set()]

    def census(self) -> Census:
        """Counts the runs that are not completed."""
        return Census.of(self._runs.values(), self.completed.running, self.left.times(self._runs))

    async def _admit(self, name: str, request: StartRequest) -> Run | int:
        """Returns the run of the request, or the exit code of a ticket that was completed in the last hour."""
        await self.recovery.finished()
        run = self._runs.get(name) or self._load(name)
        if run is None:
            if (code := self.completed.exit_code(name)) is not None:
                return code
            if self.refusal is not None:
                raise self.refusal
            for file in request.files:
                file_parts(file.name)
            require_arguments(request.arguments)
            run = Run(await self._make_workspace(request), self._context)
            run.start()
        self._runs[name] = run
        return run

    def _on_admitted(self, name: str, task: asyncio.Task[Run | int]) -> None:
        self._starting.pop(name, None)
        if not task.cancelled():
            task.exception()

    async def _make_workspace(self, request: StartRequest) -> RunFiles:
        prepare = functools.partial(self._prepare, request)
        async with self.obstacle.noticed():
            if request.files or len(request.body) > _SMALL_BODY:
                # Large files must not hold up the scripts that start together with this one.
                prepared = await asyncio.to_thread(prepare)
                return await self.workspaces.make(lambda: prepared)
            return await self.workspaces.make(prepare)

    def _prepare(self, request: StartRequest) -> RunFiles:
        if self.options.minimum_free_bytes is not None:
            try:
                disk.require_free(self.workspaces.work, self.options.minimum_free_bytes)
            except FileNotFoundError:
                # A script has removed the directory of all workspaces.
                self.workspaces.ensure()
                disk.require_free(self.workspaces.work, self.options.minimum_free_bytes)
        timeout = request.mutex_timeout.total_seconds()
        header = RunHeader(
            ticket=request.ticket,
            task=request.task_id or request.ticket,
            mutex=request.mutex_name if request.mutex_name is not None else DEFAULT_MUTEX,
            isolation=request.isolation.value,
            timeout=timeout if timeout > 0 else None,
            arguments=request.arguments,
            sealed=self.secrets.seal(request.ticket, [file.password for file in request.files]),
            limits=self._context.sandbox.limits,
            trace=request.trace,
        )
        return self.workspaces.prepare(header, request.body, request.files)

    async def find(self, ticket: str) -> Run | None:
        """Returns the run of a ticket, from memory or disk.  Waits for one that is being started."""
        try:
            name = run_name(require_ticket(ticket))
        except InvalidTicketError:
            return None
        await self.recovery.finished()
        if (starting := self._starting.get(name)) is not None:
            await asyncio.wait({starting})
        if name not in self._runs and (run := self._load(name)) is not None:
            self._runs[name] = run
        return self._runs.get(name)

    def _load(self, name: str) -> Run | None:
        """Returns a run that is on disk only: it ended before this agent was started."""
        # The files of a completed run may still be there for a moment.
        files = None if self.completed.exit_code(name) is not None else self.workspaces.runs.open(name)
        return None if files is None else self._resume(files, files.examine())

    def _resume(self, files: RunFiles, found: ExaminedRun) -> Run:
        """Returns a run that continues from the stage that its files show."""
        run = Run(files, self._context)
        if files.lags:
            run.adopt(holds_mutex=found.result is None)
        elif found.result is not None:
            run.mark_ended(found.result)
        elif found.stage is not Stage.PREPARED:
            run.adopt()
        elif files.header.is_of_this_boot:
            run.start()
        else:
            # It may have been started before the machine went down, and must not run twice.
            run.mark_ended(run.lose())
        return run

    async def _status(self, run: Run, after: int, most: int | None = None) -> RunStatus:
        state, exit_code = run.state, run.exit_code
        page = await run.page(after, self.options.page_bytes if most is None else most)
        if page.more and state is ProcessState.COMPLETE:
            state, exit_code = ProcessState.RUNNING, 0
        return RunStatus(state, exit_code, page.entries, page.next_sequence)


async def _until(seconds: float | None, *events: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for event in events:
                await event.wait()
