"""The only place where a whole agent is put together, from settings and the facts of its surroundings."""

from __future__ import annotations

import asyncio
import logging
import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tentacle import __version__
from tentacle.agent.housekeeping import beat, timespan_from
from tentacle.agent.plan import Plan, make_plan
from tentacle.agent.supervisor import keep_running
from tentacle.errors import TentacleError
from tentacle.scripts.engine import ScriptEngine
from tentacle.scripts.retention import WorkspaceCleaner
from tentacle.services.catalogue import make_dispatcher
from tentacle.services.dispatch import Files, refusal
from tentacle.services.environment import AgentFacts, script_environment
from tentacle.services.errors import ShuttingDown
from tentacle.settings.certificates import signature_algorithm_name
from tentacle.settings.model import Settings, resolved_home
from tentacle.transport.calls import Calls
from tentacle.transport.exchange import Answer, Exchange
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.poller import Poller, PollerOptions
from tentacle.transport.serving import serve_listening
from tentacle.transport.spool import Spool
from tentacle.transport.stream import format_address
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity
from tentacle.wire.messages import Request

log = logging.getLogger(__name__)

CLEANER_DELAY = "TENTACLE_WORKSPACE_CLEANER_DELAY"
CLEANER_AGE = "TENTACLE_WORKSPACE_CLEANER_DELETE_OLDER_THAN"
ANSWERS_AT_STOP = 5.0
"""Seconds for which calls under way may still be answered when the agent ends."""


@dataclass(frozen=True)
class Surroundings:
    """Where an agent runs: `config_path` and `instance_name` of its instance, `executable` by which it was started."""

    config_path: Path
    instance_name: str | None
    executable: Path
    environment: Mapping[str, str]
    timeouts: Timeouts = field(default_factory=Timeouts)


class Agent:
    """Everything one instance does.  `start`, then `run` until it is cancelled, then `aclose`; `drain` before."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self.home = resolved_home(settings, surroundings.config_path)
        self.plan = make_plan(settings, surroundings.environment)
        self._surroundings = surroundings
        self._identity = _identity(settings)
        self.engine = ScriptEngine(self.home / "Work", environment=_variables(settings, self.home, surroundings))
        dispatcher = make_dispatcher(self.engine, self.home, lambda: datetime.now(UTC))
        self._dispatcher = dispatcher
        self._closing = False
        self._calls = Calls(self._handle)
        self._spool = Spool(self.home / "Work" / ".spool")
        self.listener = self._make_listener(self.plan)
        self.pollers = [self._make_poller(number) for number in range(len(self.plan.polls))]

    async def start(self, say: Callable[[str], None]) -> None:
        """Takes over what an earlier agent left, then opens the port.  Raises `TentacleError`."""
        self._spool.create()
        await self.engine.start()
        for line in self.plan.lines:
            say(line)
        if self.listener is not None:
            await self.listener.start()
            address = format_address((self._host, self.listener.port))
            say(f"{f'listen://{address}/':<30} {threading.get_native_id() % 10000:>4}  Listener started")
            say(f"Agent listening on: {address}")

    async def run(self) -> None:
        """Polls and keeps house until it is cancelled."""
        environment = self._surroundings.environment
        cleaner = WorkspaceCleaner(
            self.engine,
            every=timespan_from(environment, CLEANER_DELAY, timedelta(hours=2)),
            older_than=timespan_from(environment, CLEANER_AGE, timedelta(days=1)),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_running("The heartbeat", lambda: beat(self.home)))
            group.create_task(keep_running("The workspace cleaner", cleaner.run))
            for poller in self.pollers:
                group.create_task(keep_running("Polling", poller.run))
            # An agent that neither polls nor cleans still has a port to serve.
            await asyncio.Event().wait()

    async def drain(self, deadline: float | None) -> tuple[str, ...]:
        """Refuses new scripts and waits for those that run; calls about them are still answered.

        Gives the tickets of those that are left after `deadline` seconds; they run on.  Calls that wait for one of
        them are answered with its state as it is: nothing is left under way.
        """
        left = await self.engine.drain(ShuttingDown(), deadline)
        await self._settle()
        return left

    async def aclose(self) -> None:
        """Ends everything but running scripts."""
        if self.listener is not None:
            self.listener.stop_accepting()
        await self._settle()
        if self.listener is not None:
            await self.listener.aclose()

    async def _settle(self) -> None:
        """Lets go of the scripts, which ends every wait for one, and gives the answers that are still owed."""
        self._closing = True
        await self.engine.aclose()
        await self._calls.aclose(ANSWERS_AT_STOP)

    async def _handle(self, request: Request, files: Files) -> Answer:
        # An engine that has let go must not take up anything again: the scripts belong to the next agent.
        if self._closing:
            return refusal(request, ShuttingDown()), {}
        return await self._dispatcher.handle(request, files)

    @property
    def _host(self) -> str:
        return (self.plan.listen and self.plan.listen[0]) or "::"

    def _make_listener(self, plan: Plan) -> Listener | None:
        if plan.listen is None:
            return None
        host, port = plan.listen
        options = ListenerOptions(host=host, port=port, timeouts=self._surroundings.timeouts)
        return Listener(self._identity, self._is_trusted, self._serve, self._spool, options)

    def _make_poller(self, number: int) -> Poller:
        poll = self.plan.polls[number]
        options = PollerOptions(poll.address, poll.subscription, poll.connections, self._surroundings.timeouts)
        return Poller(self._identity, self._calls, self._spool, options)

    def _is_trusted(self, thumbprint: str) -> bool:
        return thumbprint in self.plan.trusted

    async def _serve(self, exchange: Exchange, _thumbprint: str) -> None:
        await serve_listening(exchange, self._calls)


def _identity(settings: Settings) -> TlsIdentity:
    if settings.certificate is None:
        raise TentacleError(
            "No certificate has been generated for this Tentacle.",
            hint="run: Tentacle new-certificate",
        )
    return TlsIdentity(settings.certificate.certificate_pem, settings.certificate.key_pem)


def _variables(settings: Settings, home: Path, surroundings: Surroundings) -> Mapping[str, str | None]:
    certificate, proxy = settings.certificate, settings.proxy
    facts = AgentFacts(
        home=home,
        applications=settings.application_directory,
        instance_name=surroundings.instance_name,
        version=__version__,
        executable=surroundings.executable,
        signature_algorithm=signature_algorithm_name(certificate) if certificate else "sha256RSA",
        use_default_proxy=proxy.use_default,
        proxy_host=proxy.host,
        proxy_port=proxy.port,
        proxy_username=proxy.username,
        proxy_password=proxy.password,
    )
    return script_environment(facts, f"{platform.python_implementation()} {platform.python_version()}")
