"""The agent as a process: signals, drain, ready, and its end.

The first SIGINT, SIGTERM, SIGQUIT or SIGHUP lets running scripts finish for a while and then leaves them to the next
agent, or cancels them where the operator wants that; the second ends the process at once, and no script with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from tentacle.agent.assemble import Agent
from tentacle.agent.housekeeping import choice_from, duration_from
from tentacle.agent.lock import only_agent
from tentacle.agent.memory import give_memory_back, spare_the_collector
from tentacle.agent.own_files import put_right
from tentacle.agent.scripts import make_engine
from tentacle.agent.supervisor import keep_running
from tentacle.agent.surroundings import Surroundings
from tentacle.errors import EXIT_OK
from tentacle.host.first_process import is_watched
from tentacle.host.launcher import LAUNCHER_VARIABLE
from tentacle.host.notify import Notifier
from tentacle.host.passed_files import take_passed_files
from tentacle.host.shortcomings import require_threads, shortcomings
from tentacle.host.step_needs import missing_for_steps
from tentacle.observe.level_switch import LevelSwitch
from tentacle.observe.redaction import Redactor
from tentacle.open_files import raise_limit
from tentacle.records import dataclass
from tentacle.settings.model import Settings, resolved_home

log = logging.getLogger(__name__)

DRAIN_VARIABLE = "TENTACLE_DRAIN_TIMEOUT"
DEFAULT_DRAIN = timedelta(seconds=10)
ACTION_VARIABLE = "TENTACLE_DRAIN_ACTION"
LEAVE, CANCEL = "leave", "cancel"
FETCH_VARIABLE = "TENTACLE_DRAIN_FETCH_TIMEOUT"
DEFAULT_FETCH = timedelta(seconds=15)
"""A server looks every five seconds at least (docs/spec/services.md, "How a server conducts a script")."""
CANCEL_SECONDS = 35.0
"""For how long scripts may take, after the grace, until the last process of a cancelled one has been killed."""
END_SECONDS = 20.0
"""For how long the end may take after the scripts have been waited for."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
_STDIN_SIZE = 4096


def run_agent(
    settings: Settings,
    config_path: Path,
    instance_name: str | None,
    *,
    emit: Callable[[str], None],
    interactive: bool = False,
    is_last: bool = False,
    environment: Mapping[str, str] | None = None,
    reload: Callable[[], Settings] | None = None,
    redactor: Redactor | None = None,
    levels: LevelSwitch | None = None,
    document: Callable[[], Mapping[str, Any]] | None = None,
    wire_trace: Path | None = None,
) -> int:
    """Runs an agent until it is told to end; its exit code.

    `emit` gets the lines for standard output that are no log lines.  With `interactive`, an empty line or the end of
    standard input ends the agent too.  With `is_last` no agent follows to take scripts over: those that still run at
    the end are cancelled, whatever the environment says.  `reload` reads the settings again when the configuration file
    has changed.  `redactor` is the one of this process's logs, and `levels` changes their level; `document` is what
    `status --format=json` says; `wire_trace` where all that is said on the wire is written.
    Raises `TentacleError` when it cannot start.
    """
    require_threads()
    raise_limit()
    notifier = Notifier.take_from(os.environ)
    launcher, passed = os.environ.pop(LAUNCHER_VARIABLE, ""), take_passed_files(os.environ)
    surroundings = Surroundings(
        config_path,
        instance_name,
        executable(),
        os.environ if environment is None else environment,
        reload=reload,
        redactor=redactor or Redactor(),
        levels=levels,
        document=document,
        wire_trace=wire_trace,
        launcher=Path(launcher) if launcher else None,
        passed=passed,
        notifier=notifier,
    )
    home = resolved_home(settings, config_path)
    with only_agent(home):
        put_right(home)
        return asyncio.run(_main(settings, surroundings, emit, interactive=interactive, is_last=is_last))


def executable() -> Path:
    """The program by which this agent was started, under the original's name where it has one."""
    started_as = Path(sys.argv[0]).absolute()
    named = started_as.with_name("Tentacle")
    return named if named.exists() else started_as


async def _main(
    settings: Settings,
    surroundings: Surroundings,
    emit: Callable[[str], None],
    *,
    interactive: bool,
    is_last: bool,
) -> int:
    notifier = surroundings.notifier
    stop = _Stop()
    async with _signals(stop), _begun(settings, surroundings) as agent:
        # Read now, since whoever has mistyped one looks at the log of the start.
        ending = _ending(surroundings.environment, agent.engine.options.cancel_grace, is_last=is_last)
        await agent.start(log.info)
        running = asyncio.create_task(agent.run())
        notifier.ready(agent.in_short())
        telling = asyncio.create_task(keep_running("The watchdog", lambda: notifier.keep_reporting(agent.in_short)))
        try:
            if interactive:
                emit("Running. Press <enter> to shut down...")
                _Input(stop).watch(sys.stdin)
            await asyncio.wait({running, asyncio.ensure_future(stop.first.wait())}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                notifier.stopping(f"Stopping; {agent.in_short()}", ending.longest)
                await _drain(agent, ending)
        finally:
            for task in (telling, running):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
    log.info("Agent stopped")
    return EXIT_OK


@asynccontextmanager
async def _begun(settings: Settings, surroundings: Surroundings) -> AsyncIterator[Agent]:
    """What starts scripts takes a moment to be ready: meanwhile the host is looked at.

    All is loaded before: where memory does not suffice for that, there is no thread yet whose end would need another.
    """
    engine = make_engine(settings, surroundings)
    try:
        await engine.prepare()
        agent = Agent(settings, surroundings, engine)
        _look_at_host(surroundings.environment)
        spare_the_collector()
        give_memory_back()
        async with aclosing(agent):
            yield agent
    finally:
        await engine.aclose()


def _look_at_host(environment: Mapping[str, str]) -> None:
    for one in (*shortcomings(environment), *missing_for_steps(environment)):
        log.warning("%s %s", one.what, one.advice)


@dataclass(frozen=True)
class _Ending:
    """Seconds for running scripts to end, to be cancelled, and for the server to fetch the results.

    Without `cancel` scripts are left to the next agent; without `fetch` that one answers for the results, too.
    """

    wait: float
    cancel: float | None
    fetch: float | None

    @property
    def longest(self) -> float:
        return self.wait + (self.cancel or 0) + (self.fetch or 0) + END_SECONDS


def _ending(environment: Mapping[str, str], grace: float, *, is_last: bool) -> _Ending:
    wait = duration_from(environment, DRAIN_VARIABLE, DEFAULT_DRAIN).total_seconds()
    fetch = duration_from(environment, FETCH_VARIABLE, DEFAULT_FETCH).total_seconds()
    # Nobody could take scripts over in a container that ends with this agent.
    alone = is_last or is_watched()
    action = choice_from(environment, ACTION_VARIABLE, (CANCEL, LEAVE) if alone else (LEAVE, CANCEL))
    if is_last and action == LEAVE:
        log.warning("%s=%s is ignored: no agent takes scripts over after this one", ACTION_VARIABLE, LEAVE)
        action = CANCEL
    if action == LEAVE:
        return _Ending(wait, None, None)
    return _Ending(wait, grace + CANCEL_SECONDS, fetch if alone else None)


class _Stop:
    """Records requests to stop.  A second signal ends the process at once; an end of input after a signal does not.

    A terminal that is closed sends a signal and an end, in either order.
    """

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self._signalled = False

    def request(self, reason: str) -> None:
        """Lets the agent end in peace."""
        if not self.first.is_set():
            log.info("%s: the agent stops", reason)
            self.first.set()

    def signal(self, name: str) -> None:
        """As `request`, but the second time the process ends here."""
        if self._signalled:
            log.warning("Received %s again: ending at once", name)
            for handler in logging.getLogger().handlers:
                handler.flush()
            os._exit(EXIT_OK)
        self._signalled = True
        self.request(f"Received {name}")


@asynccontextmanager
async def _signals(stop: _Stop) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    # What `nohup` has switched off stays off.
    heard = [n for n in STOP_SIGNALS if n is not signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    for number in heard:
        loop.add_signal_handler(number, stop.signal, number.name)
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


async def _drain(agent: Agent, ending: _Ending) -> None:
    running = agent.engine.running()
    if running:
        log.info(
            "Waiting up to %g seconds for %d running script(s); new ones are refused; "
            "a second signal ends the agent at once",
            ending.wait,
            len(running),
        )
    left = await agent.drain(ending.wait, cancel_within=ending.cancel, fetch_within=ending.fetch)
    if left:
        log.info("%d script(s) still run and are left to the next agent: %s", len(left), ", ".join(left))


class _Input:
    """Standard input: an empty line, or its end, ends the agent (docs/spec/command-line.md, "agent").

    Read without Python's buffers: whoever waits there for the end of a line keeps the whole agent waiting.
    """

    def __init__(self, stop: _Stop) -> None:
        self._stop = stop
        self._descriptor = -1
        self._begun = False
        """Whether the line that is not complete yet holds anything but blanks."""

    def watch(self, stream: TextIO | None) -> None:
        """`stream` of `None` was closed when we were started; its number belongs to something else by now."""
        try:
            if stream is None:
                raise OSError("closed")
            self._descriptor = stream.fileno()
            asyncio.get_running_loop().add_reader(self._descriptor, self._readable)
        except OSError:
            # Not something that can be waited for, such as /dev/null or a file: it is at its end for us.
            self._stop.request("End of input")

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, _STDIN_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data and not self._ends_empty_line(data):
            return
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._stop.request("Enter" if data else "End of input")

    def _ends_empty_line(self, data: bytes) -> bool:
        *lines, rest = data.split(b"\n")
        for line in lines:
            if not self._begun and not line.strip():
                return True
            self._begun = False
        self._begun = self._begun or bool(rest.strip())
        return False
