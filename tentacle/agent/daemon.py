"""The agent as a process: signals, drain, ready, and its end.

The first SIGINT, SIGTERM, SIGQUIT or SIGHUP lets running scripts finish for a while and then leaves them to the next
agent; the second ends the process at once.  Scripts survive either.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

from tentacle.agent.assemble import Agent, Surroundings
from tentacle.agent.housekeeping import timespan_from
from tentacle.agent.lock import only_agent
from tentacle.errors import EXIT_OK
from tentacle.settings.model import Settings, resolved_home

log = logging.getLogger(__name__)

DRAIN_VARIABLE = "TENTACLE_DRAIN_TIMEOUT"
DEFAULT_DRAIN = timedelta(seconds=10)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
_STDIN = 0
_STDIN_SIZE = 4096


def run_agent(
    settings: Settings,
    config_path: Path,
    instance_name: str | None,
    *,
    emit: Callable[[str], None],
    interactive: bool = False,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs an agent until it is told to end; its exit code.

    `emit` gets the lines for standard output that are no log lines.  With `interactive`, an empty line or the end of
    standard input ends the agent too.  Raises `TentacleError` when it cannot start.
    """
    surroundings = Surroundings(
        config_path, instance_name, executable(), os.environ if environment is None else environment
    )
    with only_agent(resolved_home(settings, config_path)):
        agent = Agent(settings, surroundings)
        return asyncio.run(_main(agent, surroundings, emit, interactive=interactive))


def executable() -> Path:
    """The program by which this agent was started, under the original's name where it has one."""
    started_as = Path(sys.argv[0]).absolute()
    named = started_as.with_name("Tentacle")
    return named if named.exists() else started_as


async def _main(agent: Agent, surroundings: Surroundings, emit: Callable[[str], None], *, interactive: bool) -> int:
    stop = _Stop()
    async with _signals(stop), _closing(agent):
        await agent.start(log.info)
        running = asyncio.create_task(agent.run())
        try:
            if interactive:
                emit("Running. Press <enter> to shut down...")
                _Input(stop).watch()
            await asyncio.wait({running, asyncio.ensure_future(stop.first.wait())}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await _drain(agent, timespan_from(surroundings.environment, DRAIN_VARIABLE, DEFAULT_DRAIN))
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    log.info("Agent stopped")
    return EXIT_OK


class _Stop:
    """Counts the requests to end."""

    def __init__(self) -> None:
        self.first = asyncio.Event()

    def request(self, reason: str) -> None:
        """The first one lets the agent end in peace, the next one does not."""
        if self.first.is_set():
            log.warning("%s again: ending at once", reason)
            for handler in logging.getLogger().handlers:
                handler.flush()
            os._exit(EXIT_OK)
        log.info("%s: the agent stops", reason)
        self.first.set()


@asynccontextmanager
async def _signals(stop: _Stop) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    # What `nohup` has switched off stays off.
    heard = [n for n in STOP_SIGNALS if n is not signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    for number in heard:
        loop.add_signal_handler(number, stop.request, f"Received {number.name}")
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def _closing(agent: Agent) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await agent.aclose()


async def _drain(agent: Agent, deadline: timedelta) -> None:
    running = agent.engine.running()
    if running:
        log.info(
            "Waiting up to %g seconds for %d running script(s); new ones are refused; "
            "a second signal ends the agent at once",
            deadline.total_seconds(),
            len(running),
        )
    left = await agent.drain(deadline.total_seconds())
    if left:
        log.info("%d script(s) still run and are left to the next agent: %s", len(left), ", ".join(left))


class _Input:
    """Standard input: an empty line, or its end, ends the agent (tentacle-cli.md 1.2).

    Read without Python's buffers: whoever waits there for the end of a line keeps the whole agent waiting.
    """

    def __init__(self, stop: _Stop) -> None:
        self._stop = stop
        self._begun = False
        """Whether the line that is not complete yet holds anything but blanks."""

    def watch(self) -> None:
        if sys.stdin is None:
            # It was closed when we were started; its number belongs to something else by now.
            self._stop.request("End of input")
            return
        try:
            asyncio.get_running_loop().add_reader(_STDIN, self._readable)
        except OSError:
            # Not something that can be waited for, such as /dev/null or a file: it is at its end for us.
            self._stop.request("End of input")

    def _readable(self) -> None:
        try:
            data = os.read(_STDIN, _STDIN_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data and not self._ends_empty_line(data):
            return
        asyncio.get_running_loop().remove_reader(_STDIN)
        # Together with a signal (a terminal that closes sends both) it is no second wish to end.
        if not self._stop.first.is_set():
            self._stop.request("Enter" if data else "End of input")

    def _ends_empty_line(self, data: bytes) -> bool:
        *lines, rest = data.split(b"\n")
        for line in lines:
            if not self._begun and not line.strip():
                return True
            self._begun = False
        self._begun = self._begun or bool(rest.strip())
        return False
