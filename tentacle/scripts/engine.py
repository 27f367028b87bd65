"""The engine's front door: start, status, cancel, complete, by ticket.

Keeps what must be kept once per agent: one run per ticket, whatever its case and however often it is asked for; what an
earlier agent left; the refusal while the agent drains.  What a run is and does stands in `run.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from tentacle.contracts.script import ProcessOutput, ProcessState, ScriptExitCode, ScriptIsolationLevel
from tentacle.errors import TentacleError, one_line
from tentacle.masking import Mask
from tentacle.scripts import disk
from tentacle.scripts.errors import InvalidTicketError, ScriptError
from tentacle.scripts.launch.fork_server_client import Launcher
from tentacle.scripts.launch.shim_pool import Watchers
from tentacle.scripts.mutexes import DEFAULT_MUTEX, Mutexes
from tentacle.scripts.output.known_secrets import KEY_FILE, Sensitive
from tentacle.scripts.run import LOST, Means, Run
from tentacle.scripts.sandbox.sandbox import IsolationOptions, Sandbox
from tentacle.scripts.shim.log_writer import now_ms
from tentacle.scripts.startup_check import try_out
from tentacle.scripts.workspace.removal import remove_small, remove_tree
from tentacle.scripts.workspace.run_files import Finding, RunFiles, RunSettings, Stage, boot_id
from tentacle.scripts.workspace.validation import file_parts, fold, require_arguments, require_ticket
from tentacle.scripts.workspace.workspaces import WorkspaceFile, Workspaces

log = logging.getLogger(__name__)

_MEBIBYTE = 1024 * 1024
_SMALL_BODY = 256 * 1024
"""Characters of a script that is written down in place."""
_CANCEL_ANSWER = 0.1
"""Seconds for which the answer to a cancel waits, since most scripts end at once."""


@dataclass(frozen=True)
class EngineOptions:
    """Times in seconds, sizes in bytes.  `minimum_free_bytes` of `None` starts scripts on a full disk too."""

    cancel_grace: float = 5.0
    page_bytes: int = 8 * _MEBIBYTE
    line_limit: int = _MEBIBYTE
    minimum_free_bytes: int | None = disk.FOR_A_SCRIPT
    busy_after: float = 0.1
    busy_every: float = 600.0
    isolation: IsolationOptions = field(default_factory=IsolationOptions)


@dataclass(frozen=True)
class StartRequest:
    """What to run and how.  A `mutex_timeout` of zero, an empty `task_id` and no `mutex_name` mean the defaults."""

    ticket: str
    body: str = field(repr=False)
    isolation: ScriptIsolationLevel = ScriptIsolationLevel.NO_ISOLATION
    mutex_name: str | None = None
    mutex_timeout: timedelta = timedelta(0)
    arguments: tuple[str, ...] = field(default=(), repr=False)
    task_id: str | None = None
    files: tuple[WorkspaceFile, ...] = ()


@dataclass(frozen=True)
class RunStatus:
    """`exit_code` counts once `state` is complete, and complete is said with the last page of the log only."""

    state: ProcessState
    exit_code: int
    entries: tuple[ProcessOutput, ...]
    next_sequence: int


class ScriptEngine:
    """Runs scripts below `work`; use from one event loop, one engine per directory.

    `environment` is added to the agent's own for every script; a value of `None` takes a variable away.  `known` are
    the sensitive values that the agent knows, and `watch` is told of every mask that is made of them.
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
        # A link on the way may lie where a script that is kept apart does not see it any more.
        self.workspaces = Workspaces(Path(os.path.realpath(work)))
        self.sensitive = Sensitive(known, self.workspaces.work / KEY_FILE, watch)
        variables = _script_environment(environment or {})
        # A script may be able to read the environment of the process above it: nothing there that it must not know.
        own = {name: value for name, value in os.environ.items() if name in variables}
        self._launcher = Launcher(environment=own)
        self._watchers = Watchers(self._launcher)
        self._means = Means(
            launch=self._watchers.launch,
            mutexes=Mutexes(self.options.busy_after, self.options.busy_every),
            environment=variables,
            cancel_grace=self.options.cancel_grace,
            line_limit=self.options.line_limit,
            mask=self.sensitive.mask,
            sandbox=Sandbox(self.workspaces.work, self.options.isolation),
        )
        self._runs: dict[str, Run] = {}
        self._starting: dict[str, asyncio.Task[Run]] = {}
        self._detached: set[Run] = set()
        """Runs whose workspace was removed while they ran: they keep their lock to the end."""
        self._refusal: TentacleError | None = None

    async def start(self) -> None:
        """Takes over what an earlier agent left, before anything new is let in.

        Raises `IsolationUnavailableError` when this host cannot keep scripts apart as the options ask for.
        """
        await asyncio.to_thread(self._prepare_sandbox)
        await self._launcher.start()
        if self.options.isolation.asks:
            await try_out(self.workspaces, self._means)
        left = await asyncio.to_thread(self._find_left)
        # Those that run already hold their locks before those that wait ask for theirs.
        for files, found in sorted(left, key=lambda one: one[1].stage is Stage.PREPARED):
            self._runs[fold(files.workspace.name)] = self._resume(files, found)

    def _prepare_sandbox(self) -> None:
        self.workspaces.ensure()
        self._means.sandbox.prepare()

    async def aclose(self) -> None:
        """Lets go of everything; scripts that run, run on."""
        for task in self._starting.values():
            task.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        await self.workspaces.aclose()
        for run in (*self._runs.values(), *self._detached):
            await run.abandon()
        self._runs.clear()
        self._detached.clear()
        self._watchers.close()
        await self._launcher.aclose()

    async def start_script(self, request: StartRequest, wait: timedelta | None = None) -> RunStatus:
        """Starts the script once, however often it is asked for, and gives its log from the beginning.

        With `wait` the answer comes when the script has ended or that time is over.  Raises a `ScriptError` when the
        request cannot be carried out; nothing has run then.
        """
        key = fold(require_ticket(request.ticket))
        starting = self._starting.get(key)
        if starting is None:
            starting = self._starting[key] = asyncio.create_task(self._admit(key, request))
            starting.add_done_callback(lambda task: self._admitted(key, task))
        run = await asyncio.shield(starting)
        if wait is not None:
            await _until(run.ended, wait.total_seconds())
        return await self._status(run, 0)

    async def status(self, ticket: str, after: int) -> RunStatus | None:
        """What is new after entry number `after`; `None` for a ticket that is not known."""
        run = await self._find(ticket)
        return None if run is None else await self._status(run, after)

    async def cancel(self, ticket: str, after: int) -> RunStatus | None:
        """Ends the script, or its wait; then as `status`.  May be repeated."""
        run = await self._find(ticket)
        if run is None:
            return None
        run.cancel()
        await _until(run.ended, _CANCEL_ANSWER)
        return await self._status(run, after)

    async def complete(self, ticket: str) -> None:
        """Forgets the run and removes its workspace.  A script that still runs is not ended by this."""
        try:
            run = await self._find(ticket)
        except ScriptError:
            # A damaged record must not stand in the way of its removal.
            run = None
        path = self._path(ticket) if run is None else run.files.workspace
        self._runs.pop(fold(ticket), None)
        if run is not None:
            await self._let_go(run)
            self._means.sandbox.forget(run.files)
        if path is not None:
            await self._remove(path)

    async def _remove(self, path: Path) -> bool:
        # Out of the way at once, not in the thread: whoever asks for the ticket again meanwhile finds its place free.
        left = self.workspaces.put_away(path)
        if left is None or (left != path and remove_small(left)):
            return True
        return await asyncio.to_thread(remove_tree, left)

    async def _let_go(self, run: Run) -> None:
        """What becomes of a run whose workspace is removed: one that has not started will not start any more."""
        if run.state is ProcessState.PENDING:
            await run.abandon()
            return
        run.forget()
        self._detached = {other for other in (*self._detached, run) if not other.ended.is_set()}

    def _path(self, ticket: str) -> Path | None:
        try:
            return self.workspaces.find(require_ticket(ticket))
        except InvalidTicketError:
            return None

    async def discard(self, path: Path) -> bool:
        """Removes the workspace of a script that does not run; true when it is gone."""
        run = self._runs.pop(fold(path.name), None)
        if run is not None:
            run.files.close()
        return await self._remove(path)

    def is_running(self, ticket: str) -> bool:
        """True from the first request to start it until the script has ended."""
        key = fold(ticket)
        run = self._runs.get(key)
        return key in self._starting or (run is not None and not run.ended.is_set())

    def running(self) -> tuple[str, ...]:
        """The tickets of all scripts that have not ended."""
        return tuple(run.files.settings.ticket for run in self._unended())

    async def drain(self, refusal: TentacleError, deadline: float | None) -> tuple[str, ...]:
        """Refuses new scripts with `refusal` from now on and waits for the others to end.

        `deadline` is in seconds; `None` waits for ever.  Gives the tickets of those that still run.
        """
        self._refusal = refusal
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        return await self._wait_for_ends(deadline)

    async def cancel_all(self, deadline: float | None) -> tuple[str, ...]:
        """Cancels every script, also those that wait for their lock; then as `drain`."""
        for run in self._unended():
            run.cancel()
        return await self._wait_for_ends(deadline)

    async def _wait_for_ends(self, deadline: float | None) -> tuple[str, ...]:
        ends = [asyncio.ensure_future(run.ended.wait()) for run in self._unended()]
        try:
            if ends:
                await asyncio.wait(ends, timeout=deadline)
        finally:
            for end in ends:
                end.cancel()
        return self.running()

    def _unended(self) -> list[Run]:
        return [run for run in (*self._runs.values(), *self._detached) if not run.ended.is_set()]

    async def _admit(self, key: str, request: StartRequest) -> Run:
        known = self._runs.get(key) or await self._load(request.ticket)
        if known is None:
            known = await self._prepare(request)
            known.begin()
        self._runs[key] = known
        return known

    def _admitted(self, key: str, task: asyncio.Task[Run]) -> None:
        self._starting.pop(key, None)
        if not task.cancelled():
            task.exception()

    async def _prepare(self, request: StartRequest) -> Run:
        if self._refusal is not None:
            raise self._refusal
        for file in request.files:
            file_parts(file.name)
        require_arguments(request.arguments)
        settings = _settings(request)
        # A thread that makes many small calls beside a busy loop costs both more than the calls do.
        if request.files or len(request.body) > _SMALL_BODY:
            files = await asyncio.to_thread(self._make_workspace, settings, request)
        else:
            files = self._make_workspace(settings, request)
        await self.workspaces.sync(files)
        return Run(files, self._means)

    def _make_workspace(self, settings: RunSettings, request: StartRequest) -> RunFiles:
        self.workspaces.ensure()
        if self.options.minimum_free_bytes is not None:
            disk.require_free(self.workspaces.work, self.options.minimum_free_bytes)
        sealed = self.sensitive.seal(settings.ticket, [file.password for file in request.files])
        return self.workspaces.prepare(replace(settings, sealed=sealed), request.body, request.files)

    async def _find(self, ticket: str) -> Run | None:
        """The run of a ticket, from memory or disk; one that is being started is waited for."""
        try:
            key = fold(require_ticket(ticket))
        except InvalidTicketError:
            return None
        if (starting := self._starting.get(key)) is not None:
            await asyncio.wait({starting})
        if key not in self._runs and (run := await self._load(ticket)) is not None:
            self._runs[key] = run
        return self._runs.get(key)

    async def _load(self, ticket: str) -> Run | None:
        """A run that is on disk only: it ended before this agent was started."""
        path = self._path(ticket)
        files = None if path is None else _open(path)
        return None if files is None else self._resume(files, files.examine())

    def _find_left(self) -> list[tuple[RunFiles, Finding]]:
        """The runs of an earlier agent that have not ended, in the order in which they were asked for."""
        left: list[tuple[RunFiles, Finding]] = []
        for path in self.workspaces.scan():
            try:
                files = _open(path)
            except ScriptError as error:
                log.warning("%s", error)
                continue
            if files is None:
                continue
            found = files.examine()
            if found.stage is Stage.ENDED:
                files.close()
            else:
                left.append((files, found))
        return sorted(left, key=lambda one: one[0].settings.created)

    def _resume(self, files: RunFiles, found: Finding) -> Run:
        """The run whose files these are, going on from where they say that it stands."""
        run = Run(files, self._means)
        if found.stage is Stage.ENDED:
            run.show(found.exit_code)
        elif found.stage is not Stage.PREPARED:
            run.adopt()
        elif files.settings.boot == boot_id():
            run.begin()
        else:
            # Whether it was started before the machine went down is not known for sure: it must not run twice.
            files.end(ScriptExitCode.UNKNOWN_RESULT, LOST)
            run.show(ScriptExitCode.UNKNOWN_RESULT)
        return run

    async def _status(self, run: Run, after: int) -> RunStatus:
        state, exit_code = run.state, run.exit_code
        page = await run.page(after, self.options.page_bytes)
        if page.more and state is ProcessState.COMPLETE:
            state, exit_code = ProcessState.RUNNING, 0
        return RunStatus(state, exit_code, page.entries, page.next_sequence)


def _open(path: Path) -> RunFiles | None:
    """The files of a run; `None` when the directory is not that of a run.

    Raises `ScriptError` when that cannot be told: a run must not be taken for none and be started again.
    """
    try:
        return RunFiles(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ScriptError(f"The record of the script in '{path}' cannot be read: {one_line(error)}") from error


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _script_environment(extra: Mapping[str, str | None]) -> dict[str, str]:
    wanted: dict[str, str | None] = {**os.environ, **extra}
    return {name: value for name, value in wanted.items() if value is not None}


def _settings(request: StartRequest) -> RunSettings:
    timeout = request.mutex_timeout.total_seconds()
    return RunSettings(
        ticket=request.ticket,
        task=request.task_id or request.ticket,
        mutex=request.mutex_name if request.mutex_name is not None else DEFAULT_MUTEX,
        isolation=request.isolation.value,
        timeout=timeout if timeout > 0 else None,
        arguments=request.arguments,
        created=now_ms(),
        boot=boot_id(),
    )
