"""The state of one instance, gathered from its settings, its agent's lock and status file, and its work directory.

Reads and never changes.  Must not know how it is shown.
"""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tentacle.agent.lock import holder
from tentacle.agent.plan import make_plan
from tentacle.agent.status import DRAINING, LARGEST_FILE, STOPPED, AgentStatus
from tentacle.cli.frame.certificate_text import CertificateFacts, facts_of_pem
from tentacle.cli.frame.style import counted, size, span
from tentacle.cli.status.workload import Workload, workload
from tentacle.disk import DiskError, read_bytes, with_margin
from tentacle.errors import TentacleError
from tentacle.home_layout import STATUS_FILE
from tentacle.scripts.workspace.workspaces import FOR_A_SCRIPT
from tentacle.settings.model import CommunicationStyle, Settings
from tentacle.settings.trust import normalise_address, normalise_thumbprint

STALE_SECONDS: Final = 30.0
"""A running agent writes every ten seconds; a state that is older than this is told as what it was."""


@dataclass(frozen=True)
class Server:
    """One trusted server.  `asked` and `up` count polling connections; `up` is `None` when no agent says."""

    thumbprint: str
    polled: bool
    address: str | None = None
    subscription: str | None = None
    asked: int = 0
    up: int | None = None


@dataclass(frozen=True)
class Agent:
    """The agent's process.  `last` is what it wrote, `age` seconds ago; both may be left from an earlier agent.

    `running` is `None` when that cannot be seen, `pid` and the name of its `user` when not known or there is none.
    """

    running: bool | None
    pid: int | None = None
    last: AgentStatus | None = None
    age: float = 0.0
    problem: str | None = None
    user: str | None = None

    @property
    def live(self) -> AgentStatus | None:
        """What the running agent says of itself, unless that is old."""
        mine = self.running and self.last is not None and self.pid in (0, self.last.pid)
        return self.last if mine and self.age <= STALE_SECONDS else None


@dataclass(frozen=True)
class Disk:
    """`free` bytes on the file system of `path`; `needed` are those without which no script is started."""

    path: Path
    free: int
    needed: int


@dataclass(frozen=True)
class State:
    """Everything that `status` shows.  `problems` keep the agent from its work, `notes` do not."""

    instance: str | None
    config: Path
    home: Path
    modes: tuple[str, ...]
    certificate: CertificateFacts | None
    servers: tuple[Server, ...]
    agent: Agent
    work: Workload
    disk: Disk | None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether an agent is running and nothing keeps it from its work."""
        return bool(self.agent.running) and not self.problems


def modes_of(settings: Settings) -> tuple[str, ...]:
    """`listening`, `polling`, both or neither."""
    polling = any(server.style is CommunicationStyle.TENTACLE_ACTIVE for server in settings.servers)
    return (*(() if settings.no_listen else ("listening",)), *(("polling",) if polling else ()))


def agent_of(home: Path, now: float) -> Agent:
    """What is known of the agent of `home`; `now` in seconds since 1970."""
    try:
        pid = holder(home)
    except OSError as error:
        return Agent(None, problem=f"whether an agent is running cannot be seen: {home}: {error.strerror}")
    found = Agent(pid is not None, pid, user=_user_of(pid) if pid else None)
    try:
        last = AgentStatus.decode(read_bytes(home / STATUS_FILE, limit=LARGEST_FILE))
    except FileNotFoundError:
        return found
    except DiskError as error:
        return replace(found, problem=error.message)
    except ValueError as error:
        return replace(found, problem=f"{home / STATUS_FILE} cannot be used: {error}")
    return replace(found, last=last, age=max(now - last.written, 0.0))


def _user_of(pid: int) -> str | None:
    """Who a process belongs to."""
    try:
        uid = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def option_for(name: str | None, config: Path | None) -> str:
    """What to add to a command so that it means this instance, as it is typed."""
    if name:
        return f" --instance={shlex.quote(name)}"
    return f" --config={shlex.quote(str(config))}" if config else ""


def disk_of(home: Path) -> Disk | None:
    """The room on the file system of the workspaces; `None` when there is no such directory."""
    folder = home / "Work"
    for path in (folder, home):
        try:
            status = os.statvfs(path)
        except OSError:
            continue
        return Disk(path, status.f_bavail * status.f_frsize, with_margin(FOR_A_SCRIPT))
    return None


def state_of(
    name: str | None, config: Path, home: Path, settings: Settings, environ: Mapping[str, str], now: float
) -> State:
    """The state of the instance at this moment."""
    agent = agent_of(home, now)
    servers, problem = _servers(settings, environ, agent)
    state = State(
        name,
        config,
        home,
        modes_of(settings),
        _certificate(settings),
        servers,
        agent,
        workload(home / "Work"),
        disk_of(home),
    )
    problems = (*((problem,) if problem else ()), *_problems(state))
    return replace(state, problems=problems, notes=tuple(_notes(state, settings, now)))


def _certificate(settings: Settings) -> CertificateFacts | None:
    return None if settings.certificate is None else facts_of_pem(settings.certificate.certificate_pem)


def _servers(settings: Settings, environ: Mapping[str, str], agent: Agent) -> tuple[tuple[Server, ...], str | None]:
    """The trusted servers, and what is wrong with an address that is to be polled."""
    problem = None
    asked: dict[tuple[str, str], int] = {}
    try:
        plan = make_plan(settings, environ)
        asked = {(poll.shown, poll.subscription): poll.connections for poll in plan.polls}
    except TentacleError as error:
        problem = error.message
    up = {(normalise_address(one.address), one.subscription): one for one in (agent.live.polled if agent.live else ())}
    found = []
    for server in settings.servers:
        polled = server.style is CommunicationStyle.TENTACLE_ACTIVE
        where, name = server.address or "", server.subscription_id or ""
        told = up.get((normalise_address(where), name))
        planned = next((n for (shown, s), n in asked.items() if s == name and _same(shown, where)), 0)
        found.append(
            Server(
                normalise_thumbprint(server.thumbprint),
                polled,
                server.address,
                server.subscription_id,
                asked=(told.asked if told else planned) if polled else 0,
                up=told.up if told and polled else None,
            )
        )
    return tuple(found), problem


def _same(shown: str, address: str) -> bool:
    return normalise_address(shown) == normalise_address(address)


def _problems(state: State) -> Iterator[str]:
    """What keeps a running agent from its work."""
    agent, live = state.agent, state.agent.live
    option = option_for(state.instance, state.config)
    if agent.problem:
        yield agent.problem
    if agent.running and live is None:
        old = agent.last is not None and agent.pid in (0, agent.last.pid)
        what = f"for {span(agent.age)}" if old else "yet"
        yield f"the agent is running but has not written its state {what}: it has just started, or it hangs"
    if live is not None and live.phase == DRAINING:
        yield "the agent is about to stop: it refuses new scripts and waits for those that run"
    for server in state.servers:
        if live is not None and server.polled and server.up == 0:
            yield f"no connection to {server.address} is up: see the log, or run: tentacle doctor{option}"
    if agent.running and state.disk is not None and state.disk.free < state.disk.needed:
        yield (f"the disk has {size(state.disk.free)} free, and without {size(state.disk.needed)} no script is started")


def _notes(state: State, settings: Settings, now: float) -> Iterator[str]:
    """What somebody should know although the agent works."""
    live, certificate = state.agent.live, state.certificate
    option = option_for(state.instance, state.config)
    if certificate is None:
        yield f"there is no certificate yet: run tentacle new-certificate{option}"
    else:
        weak = certificate.weaknesses(now)
        if weak:
            yield f"the certificate should be replaced: {'; '.join(weak)}"
        if live is not None and live.thumbprint != certificate.thumbprint:
            yield f"the agent still shows the certificate {live.thumbprint}: restart it"
    if not settings.servers:
        yield f"no server is trusted: run tentacle init{option if state.instance else ''}, or tentacle register-worker"
    if live is not None and any(server.polled and server.up is None for server in state.servers):
        yield "the agent does not poll all servers of the configuration: restart it if that stays so"
    last = state.agent.last
    if state.agent.running is False and last is not None and last.phase != STOPPED:
        yield f"the last agent (process {last.pid}) ended without a word: it was killed, or the machine went down"
    if state.agent.running is False and state.work.scripts:
        yield f"{counted(len(state.work.scripts), 'script')} left to the next agent"
