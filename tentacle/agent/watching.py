"""What can be watched of an agent: whether it can take work, and the numbers of a scrape.

Reads, and changes nothing.  Must not know HTTP, nor what a metric is called.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from tentacle.agent.plan import Plan
from tentacle.agent.status import DRAINING, RUNNING, AgentStatus
from tentacle.certificate_parsing import parse_certificate
from tentacle.disk import file_size, free_bytes, with_margin
from tentacle.observe.audit import AuditRecord
from tentacle.observe.readings import AgentReading, ListenerReading, ServerReading
from tentacle.scripts.engine import ScriptEngine
from tentacle.settings.policy import HostPolicy
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport.calls import Calls
from tentacle.transport.listener import Listener

if TYPE_CHECKING:
    from tentacle.transport.poller import Poller

_LEAST_FILES: Final = 20
"""A workspace, two run files, and what comes along."""


class Watchable(Protocol):
    """What is read of an agent."""

    engine: ScriptEngine
    plan: Plan
    listener: Listener | None
    calls: Calls
    audit: AuditRecord

    @property
    def pollers(self) -> list[Poller]: ...

    @property
    def policy(self) -> HostPolicy: ...

    @property
    def certificate(self) -> StoredCertificate: ...

    def status(self) -> AgentStatus: ...


def missing(agent: Watchable) -> tuple[str, ...]:
    """What keeps the agent from taking work, each as a word for what and a sentence; nothing when it can."""
    status, found = agent.status(), []
    if status.phase == DRAINING:
        found.append(f"drain: an operator wants no new scripts here, {status.drain}")
    elif status.phase != RUNNING:
        found.append(f"agent: it is {status.phase}")
    if not agent.plan.trusted:
        found.append("trust: no server is trusted")
    elif status.listening is None and not any(one.up for one in status.polled):
        what = "no polling connection is up" if status.polled else "no server is polled"
        found.append(f"connections: the port is not open, and {what}")
    if agent.policy.problem:
        found.append(f"policy: nothing new is allowed: {agent.policy.problem}")
    if status.obstacle:
        found.append(f"scripts: none can be run: {status.obstacle}")
    found += (f"disk: {text}" for text in _lack(agent.engine))
    return tuple(found)


def _lack(engine: ScriptEngine) -> Iterator[str]:
    """What the file system lacks on which scripts work."""
    free, needed = _disk(engine)
    if free is not None and needed is not None and free < needed:
        yield f"{file_size(free)} are free, and without {file_size(needed)} no script is started"
    work = Path(engine.workspaces.work)
    try:
        status = os.statvfs(work)
    except OSError as error:
        yield f"{work} cannot be used: {error.strerror}"
        return
    if status.f_flag & os.ST_RDONLY:
        yield f"the file system of {work} can only be read"
    elif status.f_files and status.f_favail < _LEAST_FILES:
        yield f"{status.f_favail} more files can be made in {work}, and a script needs some"


def reading(agent: Watchable) -> AgentReading:
    """The state of the agent in numbers."""
    status, census, listener = agent.status(), agent.engine.census(), agent.listener
    free, needed = _disk(agent.engine)
    return AgentReading(
        version=status.version,
        reported_version=status.reported_version,
        since=status.since,
        missing=missing(agent),
        draining=status.phase == DRAINING,
        called=status.called,
        certificate_ends=_end_of(agent.certificate.certificate_pem),
        scripts=census.states,
        running_log_bytes=census.log_bytes,
        undelivered=None if census.oldest is None else max(time.time() - census.oldest, 0.0),
        calls=len(agent.calls),
        policy_broken=bool(agent.policy.problem),
        audit_failures=agent.audit.failures,
        disk_free=free,
        disk_needed=needed,
        servers=_servers(agent.pollers),
        listener=None
        if listener is None
        else ListenerReading(*listener.connected, listener.accepted, dict(listener.failures)),
    )


def _servers(pollers: list[Poller]) -> tuple[ServerReading, ...]:
    """One for each address: it may be polled under several subscriptions."""
    found: dict[str, ServerReading] = {}
    for poller in pollers:
        address = poller.options.address.url
        before = found.get(address, ServerReading(address, 0, 0, 0))
        failures = {
            reason: before.failures.get(reason, 0) + poller.failures[reason]
            for reason in {*before.failures, *poller.failures}
        }
        found[address] = ServerReading(
            address,
            before.wanted + poller.options.connections,
            before.up + poller.connected,
            before.reconnects + poller.reconnects,
            failures,
        )
    return tuple(found.values())


def _disk(engine: ScriptEngine) -> tuple[int | None, int | None]:
    """The free bytes where scripts work, and those without which none is started."""
    least = engine.options.minimum_free_bytes
    needed = None if least is None else with_margin(least)
    with suppress(OSError):
        return free_bytes(Path(engine.workspaces.work)), needed
    return None, needed


@functools.lru_cache(maxsize=4)
def _end_of(pem: bytes) -> float | None:
    with suppress(ValueError):
        return parse_certificate(pem).not_valid_after_utc.timestamp()
    return None
