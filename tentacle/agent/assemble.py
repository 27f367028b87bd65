"""The only place where a whole agent is put together, from settings and its surroundings."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tentacle import __version__
from tentacle.agent.control.methods import ControlMethods
from tentacle.agent.control.server import ControlServer
from tentacle.agent.draining import DrainSwitch
from tentacle.agent.housekeeping import beat, look_for_obstacle, number_from, publish, stop_beating, timespan_from
from tentacle.agent.identities import identities
from tentacle.agent.oversight import Oversight
from tentacle.agent.own_files import make_spool
from tentacle.agent.own_port import open_port
from tentacle.agent.plan import Plan, PollPlan, make_plan
from tentacle.agent.polling import PollerParts, Polling, callers, polled
from tentacle.agent.reload import ConfigurationWatch, change
from tentacle.agent.scripts import known_to
from tentacle.agent.status import DRAINING, RUNNING, STOPPED, STOPPING, AgentStatus, LastScript, tell
from tentacle.agent.supervisor import keep_running
from tentacle.agent.surroundings import Surroundings
from tentacle.agent.watching import missing, reading
from tentacle.home_layout import AUDIT_FILE, INBOX, LOGS, POLLED_CALLS, SPOOL, UPLOADS, WORK
from tentacle.late_imports import LateModule
from tentacle.observe.audit import AuditRecord
from tentacle.observe.measures import Unmeasured
from tentacle.scripts.engine import ScriptEngine
from tentacle.scripts.history import EndedScript, ScriptHistory
from tentacle.scripts.retention import Quota, WorkspaceCleaner
from tentacle.services.dispatch import Answered, Call, Failure, Files, close_files, shutting_down
from tentacle.services.errors import ShuttingDown
from tentacle.services.file_transfer import upload_check
from tentacle.services.halibut import answer_request, is_immediate
from tentacle.services.http.call_record import CallRecord
from tentacle.services.http.inbox import Inbox
from tentacle.services.parts import Parts
from tentacle.services.service_list import make_dispatcher
from tentacle.services.veto import TransferRoots, Veto
from tentacle.settings.certificates import weaknesses
from tentacle.settings.key_places import credentials_of
from tentacle.settings.model import Settings, resolved_home
from tentacle.settings.monitor import MonitorAddress
from tentacle.settings.policy import HostPolicy
from tentacle.settings.policy_file import PolicyFile
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport.calls import Calls
from tentacle.transport.exchange import Answer, Exchange
from tentacle.transport.http.service import HttpService
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.serving import serve_listening
from tentacle.transport.spool import Spool
from tentacle.transport.stream import format_address
from tentacle.wire.call_context import CallContext
from tentacle.wire.messages import Request

if TYPE_CHECKING:
    from tentacle.observe import metrics, monitor, wire_trace
    from tentacle.services.http import api
    from tentacle.transport.poller import Poller
else:  # aiohttp, prometheus_client and h11, for those who want to see, and what answers HTTPS
    metrics = LateModule("tentacle.observe.metrics")
    monitor = LateModule("tentacle.observe.monitor")
    api = LateModule("tentacle.services.http.api")
    wire_trace = LateModule("tentacle.observe.wire_trace")

log = logging.getLogger(__name__)

CLEANER_DELAY = "TENTACLE_WORKSPACE_CLEANER_DELAY"
SHORTEST_CLEANER_DELAY = timedelta(milliseconds=100)
"""With zero, sweeps would follow each other without a pause."""
CLEANER_AGE = "TENTACLE_WORKSPACE_CLEANER_DELETE_OLDER_THAN"
QUOTA_BYTES = "TENTACLE_WORKSPACE_QUOTA_BYTES"
QUOTA_INODES = "TENTACLE_WORKSPACE_QUOTA_INODES"
REMINDER_SECONDS = 86400.0
"""How often the log says what speaks against the certificate in use."""
ANSWERS_AT_STOP = 5.0
"""Seconds for which calls under way may still be answered when the agent ends."""


class Agent:
    """Everything one instance does.  `start`, then `run` until it is cancelled, then `aclose`; `drain` before."""

    def __init__(self, settings: Settings, surroundings: Surroundings, engine: ScriptEngine) -> None:
        """`engine` is that of the instance (`agent/scripts.py`), which may have begun.  Raises `TentacleError`."""
        self.home = resolved_home(settings, surroundings.config_path)
        self.plan = make_plan(settings, surroundings.environment)
        self._surroundings = surroundings
        self._settings = settings
        self._waiting: tuple[str, ...] = ()
        self._identity, self._fallback = identities(settings)
        counting = None if settings.monitor is None else metrics.Metrics(lambda: reading(self))
        measures = counting or Unmeasured()
        self.engine = engine
        engine.report_to(lambda header, result: self._on_ended(EndedScript.of(header, result)), measures)
        self._history = ScriptHistory(self.engine.workspaces.runs.path)
        self._policy = PolicyFile(surroundings.policy_places)
        self.audit = AuditRecord(self.home / LOGS / AUDIT_FILE, surroundings.redactor.shown)
        veto = Veto(self._policy.current, self.engine.is_known)
        self._oversight = Oversight(measures, self.audit, veto, self._policy.current)
        self._drain = DrainSwitch(self.home, self.engine)
        self._control = ControlServer(
            self.home,
            ControlMethods(self.engine, self._history, self.status, self._drain, surroundings.levels).by_name,
        )
        self._parts = Parts(self.home / WORK / UPLOADS)
        roots = TransferRoots(self._policy.current, credentials_of(surroundings.environment))
        self._spool = Spool(self.home / WORK / SPOOL, for_keeps=True)
        self._dispatcher = make_dispatcher(
            self.engine,
            self.home,
            lambda: datetime.now(UTC),
            self._parts,
            surroundings.redactor.shown,
            self._oversight,
            roots,
            self._spool.digest_of,
        )
        self._closing = False
        self._phase = RUNNING
        self._called: float | None = None
        self._since = time.time()
        self._wire_trace = _wire_trace(surroundings)
        self._tapping = None if self._wire_trace is None else self._wire_trace.connection
        self.calls = Calls(self._handle, is_immediate)
        self._inbox, self._record = Inbox(self.home / WORK / INBOX), CallRecord(self.home / WORK / POLLED_CALLS)
        self._may_send = upload_check(self.home, roots)
        self.listener = self._make_listener(self.plan)
        self._poller_parts = PollerParts(self.calls, self._spool, self.home, lambda: self.http.polled)
        self._polling = Polling(self._make_poller, self.plan.polls)
        self._monitor = self._make_monitor(settings.monitor, counting)

    @cached_property
    def http(self) -> api.HttpApi:
        """What answers HTTPS, made for the first request: most agents never get one."""
        own = (self._answer, self._finish, self.engine, self._inbox, self._record, self._oversight, self._may_send)
        return api.HttpApi(*own)

    @property
    def pollers(self) -> list[Poller]:
        """One per server that is polled at this moment."""
        return self._polling.pollers

    @property
    def certificate(self) -> StoredCertificate:
        """The one in use."""
        assert self._settings.certificate is not None, "an agent without one was refused"
        return self._settings.certificate

    async def start(self, say: Callable[[str], None]) -> None:
        """Takes over what an earlier agent left, then opens the port.  Raises `TentacleError`."""
        for prepare in (self._parts.sweep, self._history.load, self._inbox.prepare, self._record.prepare):
            await asyncio.to_thread(prepare)
        if self._wire_trace is not None:
            self._wire_trace.start()
        self._drain.take_up()
        self._policy.current()
        await self.engine.start()
        make_spool(self._spool, self.home / WORK / SPOOL, self.engine.workspaces.move_to_trash)
        await self._control.start()
        for line in self.plan.lines:
            say(line)
        self._warn_of_certificate()
        await open_port(self.listener, self.plan.listen, self._surroundings)
        if self.listener is not None:
            address = format_address((self._host, self.listener.port))
            say(f"{f'listen://{address}/':<30} {threading.get_native_id() % 10000:>4}  Listener started")
            say(f"Agent listening on: {address}")

    async def run(self) -> None:
        """Polls and keeps house until it is cancelled."""
        environment = self._surroundings.environment
        cleaner = WorkspaceCleaner(
            self.engine,
            every=max(timespan_from(environment, CLEANER_DELAY, timedelta(hours=2)), SHORTEST_CLEANER_DELAY),
            older_than=timespan_from(environment, CLEANER_AGE, timedelta(days=1)),
            quota=Quota(number_from(environment, QUOTA_BYTES), number_from(environment, QUOTA_INODES)),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_running("The heartbeat", lambda: beat(self.home)))
            group.create_task(keep_running("The status file", lambda: publish(self.home, self.status)))
            if self._wire_trace is not None:
                group.create_task(keep_running("The trace of the wire", self._wire_trace.keep_writing))
            group.create_task(keep_running("The workspace cleaner", cleaner.run))
            group.create_task(
                keep_running("The look at the work directory", lambda: look_for_obstacle(self.engine.obstacle))
            )
            group.create_task(keep_running("Polling", self._polling.run))
            group.create_task(keep_running("The look at the certificate", self._remind_of_certificate))
            if self._monitor is not None:
                group.create_task(keep_running("The monitor", self._monitor.run))
                group.create_task(keep_running("Counting", lambda: asyncio.to_thread(self.engine.left.look)))
            if self._surroundings.reload is not None:
                watch = ConfigurationWatch(self._surroundings.config_path, self._surroundings.reload, self.follow)
                group.create_task(keep_running("Watching the configuration", watch.run))
            # An agent that neither polls nor cleans still has a port to serve.
            await asyncio.Event().wait()

    def follow(self, settings: Settings) -> None:
        """Takes up what a running agent can of changed settings, and names the rest.

        Raises `TentacleError` when they cannot be used; then nothing has changed.
        """
        following = change(self._settings, settings, self.plan, self._surroundings.environment)
        if following.certificates:
            self._identity, self._fallback = identities(following.settings)
            self._showidentities()
        self._settings, self.plan = following.settings, following.plan
        if following.certificates:
            self._warn_of_certificate()
        self.engine.secrets.learn(known_to(self._settings, self._surroundings))
        for line in following.lines:
            log.info("%s", line)
        if following.waiting and following.waiting != self._waiting:
            log.warning("Changed, but in force only after a restart of the agent: %s", ", ".join(following.waiting))
        self._waiting = following.waiting
        self._polling.follow(self.plan.polls, self.plan.trusted)
        if self.listener is not None:
            self.listener.drop_untrusted()

    def _showidentities(self) -> None:
        log.info("The certificate in use is %s", self._identity.thumbprint)
        if self.listener is not None:
            self.listener.show(self._identity)
        for poller in self.pollers:
            poller.show(self._identity, self._fallback)

    async def _remind_of_certificate(self) -> None:
        """An agent may run for years after it was last started."""
        while True:
            await asyncio.sleep(REMINDER_SECONDS)
            self._warn_of_certificate()

    def _warn_of_certificate(self) -> None:
        for problem in weaknesses(self.certificate, datetime.now(UTC)):
            log.warning("The certificate %s %s", self.certificate.thumbprint, problem)

    async def drain(
        self, deadline: float | None, *, cancel_within: float | None = None, fetch_within: float | None = None
    ) -> tuple[str, ...]:
        """Refuses new scripts and waits for those that run; calls about them are still answered.

        Gives the tickets of those that are left after `deadline` seconds; they run on.  With `cancel_within` they are
        cancelled first, and that many seconds are given to that.  With `fetch_within` the server has that many seconds
        to fetch the results.  Calls that wait for one of them are answered with its state as it is: nothing is left
        under way.
        """
        self._phase = STOPPING
        self._drain.close()
        tell(self.home, self.status())
        left = await self.engine.drain(ShuttingDown(), deadline)
        if left and cancel_within is not None:
            log.info("Cancelling %d script(s) that still run: %s", len(left), ", ".join(left))
            left = await self.engine.cancel_all(cancel_within)
        if fetch_within and (lost := await self.engine.wait_for_completes(fetch_within)):
            log.warning("No server has fetched the results of %d script(s): %s", len(lost), ", ".join(lost))
        await self._settle()
        return left

    async def aclose(self) -> None:
        """Ends everything but running scripts."""
        if self.listener is not None:
            self.listener.stop_accepting()
        await self._settle()
        if self.listener is not None:
            await self.listener.aclose()
        if "http" in vars(self):
            self.http.aclose()
        await self._control.aclose()
        self._history.close()
        self.audit.close()
        if self._wire_trace is not None:
            self._wire_trace.aclose()
        self._phase = STOPPED
        stop_beating(self.home)
        tell(self.home, self.status(), quiet=True)

    def status(self) -> AgentStatus:
        """What `status.json` says of this agent."""
        listening = self.listener is not None and self._phase != STOPPED
        return AgentStatus(
            phase=DRAINING if self._phase == RUNNING and self._drain.drain else self._phase,
            pid=os.getpid(),
            since=self._since,
            version=__version__,
            reported_version=self._settings.reported_version,
            thumbprint=self._identity.thumbprint,
            listening=format_address((self._host, self.listener.port)) if self.listener and listening else None,
            polled=tuple(polled(poller, self._surroundings.redactor.shown) for poller in self.pollers),
            drain=self._drain.drain,
            called=self._called,
            last_script=self._last_script(),
            waiting=self._waiting,
            callers=callers(self.calls.seen),
            launcher=self.engine.launcher,
            obstacle=self.engine.obstacle.reason,
        )

    def _last_script(self) -> LastScript | None:
        headers = [run.files.header for run in self.engine.unended()]
        running = [LastScript(one.ticket, one.task, one.created / 1000) for one in headers]
        ended = [LastScript(s.ticket, s.task, s.since, s.ended, s.exit_code) for s in self._history.scripts[-1:]]
        return max((*running, *ended), key=lambda one: one.since, default=None)

    def in_short(self) -> str:
        """Returns one line for systemd's status."""
        return f"{self.status().in_short()}; {len(self.engine.running())} script(s) running"

    @property
    def policy(self) -> HostPolicy:
        """The host's, in force now."""
        return self._policy.current()

    def _on_ended(self, script: EndedScript) -> None:
        if self._history.add(script):
            self._oversight.ended(script)

    async def _settle(self) -> None:
        """Lets go of the scripts, which ends every wait for one, and gives the answers that are still owed."""
        self._closing = True
        await self.engine.aclose()
        await self.calls.aclose(ANSWERS_AT_STOP)
        self._dispatcher.aclose()

    async def _handle(self, request: Request, files: Files, context: CallContext) -> Answer:
        return await answer_request(self._answer, request, files, context)

    async def _answer(self, call: Call) -> Answered | Failure:
        # An engine that has let go must not take up anything again: the scripts belong to the next agent.
        if self._closing:
            return shutting_down()
        self._called = time.time()
        return await self._dispatcher.answer(call)

    async def _finish(self, call: Coroutine[Any, Any, Answered | Failure]) -> Answered | Failure:
        return await self.calls.finish(call, close_files)

    @property
    def _host(self) -> str:
        return (self.plan.listen and self.plan.listen[0]) or "::"

    def _make_listener(self, plan: Plan) -> Listener | None:
        if plan.listen is None:
            return None
        host, port = plan.listen
        options = ListenerOptions(host=host, port=port, timeouts=self._surroundings.timeouts, tapping=self._tapping)
        http = HttpService(lambda request: self.http.answer(request), self.calls.owing)  # noqa: PLW0108  # made then
        return Listener(self._identity, self._is_trusted, self._serve, self._spool, options, http)

    def _make_monitor(self, address: MonitorAddress | None, counting: metrics.Metrics | None) -> monitor.Monitor | None:
        if address is None or counting is None:
            return None
        views = monitor.Views(lambda: missing(self), counting.expose, self._surroundings.document)
        return monitor.Monitor(views, address.host, address.port, address.path)

    def _make_poller(self, poll: PollPlan) -> Poller:
        timeouts = self._surroundings.timeouts
        return self._poller_parts.poller(poll, timeouts, self._tapping, self._identity, self._fallback)

    def _is_trusted(self, thumbprint: str) -> bool:
        return thumbprint in self.plan.trusted

    async def _serve(self, exchange: Exchange, _thumbprint: str) -> None:
        await serve_listening(exchange, self.calls)


def _wire_trace(surroundings: Surroundings) -> wire_trace.WireTrace | None:
    path = surroundings.wire_trace
    return None if path is None else wire_trace.WireTrace(path, surroundings.redactor.shown)
