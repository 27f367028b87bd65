"""The state of one instance, gathered from its settings, its running agent, its agent's files, and its work directory.

The one source of what `status` and `doctor` say of an agent.  A running agent is asked; one that cannot be asked has
written to its status file what it would have said.
Reads and never changes.  Must not know how it is shown.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tentacle.agent.control.client import ControlClient, NoAgent
from tentacle.agent.control.protocol import ControlError
from tentacle.agent.drain import Drain, read_drain
from tentacle.agent.lock import holder
from tentacle.agent.plan import make_plan, polled_address
from tentacle.agent.status import LARGEST_FILE, STOPPED, STOPPING, THE_CERTIFICATE, AgentStatus, Link
from tentacle.cli.frame.certificate_text import CertificateSummary, summary_of_pem
from tentacle.cli.frame.style import counted, moment, size, span
from tentacle.cli.registration.ephemeral_note import running_worker, settings_of_run
from tentacle.cli.status.work_directory import WorkDirectory, read_work_directory
from tentacle.disk import DiskError, read_bytes, user_name, with_margin
from tentacle.errors import TentacleError
from tentacle.home_layout import STATUS_FILE, WORK
from tentacle.records import dataclass
from tentacle.scripts.workspace.workspaces import FOR_A_SCRIPT
from tentacle.settings.certificates import weaknesses
from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer
from tentacle.settings.trust import normalise_address, normalise_thumbprint, same_thumbprint

STALE_SECONDS: Final = 30.0
"""A running agent writes its state every ten seconds; one that is older than this is shown as old."""


_GENERATIONS: Final = {
    "modern": "Halibut 7 or later, and is answered at once",
    "old": "Halibut before 7, or something like it, and is answered with pauses of a few milliseconds",
}
"""What a server speaks, by its generation (docs/spec/wire.md, "Records and old peers")."""


@dataclass(frozen=True)
class ServerState:
    """One trusted server.  `asked` and `up` count polling connections; `up` is `None` when no agent says.

    `generation` is `modern`, `old`, or `None` when it has not called since the agent started.  By `https` it is polled
    as docs/spec/https.md says.
    """

    thumbprint: str
    polled: bool
    address: str | None = None
    subscription: str | None = None
    asked: int = 0
    up: int | None = None
    links: tuple[Link, ...] = ()
    generation: str | None = None
    https: bool = False

    @property
    def generation_text(self) -> str | None:
        """The generation in words."""
        return self.generation and _GENERATIONS.get(self.generation)

    @property
    def failures(self) -> list[Link]:
        """The connections that are down and have failed, the last one that did first."""
        down = [link for link in self.links if not link.up and link.error]
        return sorted(down, key=lambda link: -(link.failed or 0))


@dataclass(frozen=True)
class AgentState:
    """The agent's process.  `last` is what it said or wrote, `age` seconds ago; both may be left from an earlier agent.

    `running` is `None` when that cannot be seen.  `pid` is 0 for an agent whose process is not known; `user` is the
    name of the process's user.  `advice` is what to do about a `problem` of an agent that does not answer.  `drain` is
    what an operator asked for, of this agent or the next one.
    """

    running: bool | None
    pid: int | None = None
    last: AgentStatus | None = None
    age: float = 0.0
    problem: str | None = None
    advice: str | None = None
    user: str | None = None
    drain: Drain | None = None

    @property
    def own(self) -> AgentStatus | None:
        """What the running agent wrote last, however old; `None` when an earlier agent wrote it."""
        return self.last if self.running and self.last is not None and self.pid in (0, self.last.pid) else None

    @property
    def live(self) -> AgentStatus | None:
        """What the running agent says of itself, unless that is old."""
        return self.own if self.age <= STALE_SECONDS else None

    @property
    def process(self) -> str:
        """Which process it is, and of which user, in words."""
        return f"process {self.pid}{f' as {self.user}' if self.user else ''}" if self.pid else "an unknown process"

    @property
    def seen(self) -> str | None:
        """When an agent that no longer runs was there, in words; `None` when it has left no state."""
        if self.last is None:
            return None
        return f"{'stopped' if self.last.phase == STOPPED else 'last seen'} at {moment(self.last.written)}"


@dataclass(frozen=True)
class DiskSpace:
    """`free` bytes on the file system of `path`; without `needed` bytes no script is started."""

    path: Path
    free: int
    needed: int

    @property
    def enough(self) -> bool:
        """Whether a script can be started."""
        return self.free >= self.needed


@dataclass(frozen=True)
class Remark:
    """What somebody should know: `about` is one of the words by which `doctor` names its checks."""

    about: str
    text: str


@dataclass(frozen=True)
class InstanceState:
    """Everything that `status` shows.  `problems` keep the agent from its work, `notes` do not; both tell first what
    they are about.  `settings` are what the agent works with: those of an ephemeral run, where one runs.
    """

    instance: str | None
    config: Path
    home: Path
    modes: tuple[str, ...]
    certificate: CertificateSummary | None
    servers: tuple[ServerState, ...]
    agent: AgentState
    work: WorkDirectory
    disk: DiskSpace | None
    problems: tuple[Remark, ...] = ()
    notes: tuple[Remark, ...] = ()
    settings: Settings = field(default=Settings(), repr=False)

    @property
    def healthy(self) -> bool:
        """Whether an agent is running and nothing keeps it from its work."""
        return bool(self.agent.running) and not self.problems

    @property
    def reported_version(self) -> str:
        """The version that servers are told: by the agent that runs, else by the next one."""
        return (self.agent.own and self.agent.own.reported_version) or self.settings.reported_version


def agent_state(home: Path, now: float) -> AgentState:
    """What is known of the agent of `home`; `now` in seconds since 1970."""
    try:
        pid = holder(home)
    except OSError as error:
        return AgentState(None, problem=f"whether an agent is running cannot be seen: {home}: {error.strerror}")
    found = AgentState(pid is not None, pid)
    if pid:
        # The process may have ended, and those of other users may be hidden.
        with suppress(OSError):
            found = replace(found, user=user_name(Path(f"/proc/{pid}").stat().st_uid))
    with suppress(OSError):
        found = replace(found, drain=read_drain(home))
    if found.running:
        try:
            with ControlClient(home) as agent:
                return replace(found, last=AgentStatus.read(agent.ask("status")))
        except NoAgent:
            # It starts or ends just now, it is of an earlier version, or its file system has no sockets.
            pass
        except ControlError as error:
            found = replace(found, problem=_uncapitalised(error.message), advice=error.hint)
        except ValueError as error:
            found = replace(found, problem=f"what the agent says of itself cannot be used: {error}")
    return _with_file(found, home, now)


def _with_file(found: AgentState, home: Path, now: float) -> AgentState:
    """With what the agent wrote last."""
    try:
        last = AgentStatus.decode(read_bytes(home / STATUS_FILE, limit=LARGEST_FILE))
    except FileNotFoundError:
        return found
    except DiskError as error:
        return replace(found, problem=found.problem or error.message)
    except ValueError as error:
        return replace(found, problem=found.problem or f"{home / STATUS_FILE} cannot be used: {error}")
    return replace(found, last=last, age=max(now - last.written, 0.0))


def _uncapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def option_for(name: str | None, config: Path | None) -> str:
    """What to add to a command so that it means this instance, as it is typed."""
    if name:
        return f" --instance={shlex.quote(name)}"
    return f" --config={shlex.quote(str(config))}" if config else ""


def disk_space(home: Path) -> DiskSpace | None:
    """The space on the file system of the workspaces; `None` when there is no such directory."""
    for path in (home / WORK, home):
        try:
            status = os.statvfs(path)
        except OSError:
            continue
        return DiskSpace(path, status.f_bavail * status.f_frsize, with_margin(FOR_A_SCRIPT))
    return None


def instance_state(
    name: str | None,
    config: Path,
    home: Path,
    settings: Settings,
    environ: Mapping[str, str],
    now: float,
    work: WorkDirectory | None = None,
) -> InstanceState:
    """The state of the instance at this moment; `now` in seconds since 1970.

    Without `work` the work directory is looked at, which takes a moment.
    """
    ephemeral = running_worker(home)
    settings = settings_of_run(settings, ephemeral) if ephemeral else settings
    polling = any(server.style is CommunicationStyle.TENTACLE_ACTIVE for server in settings.servers)
    agent = agent_state(home, now)
    servers, problem = server_states(settings, environ, agent.live)
    certificate = settings.certificate
    state = InstanceState(
        name,
        config,
        home,
        (
            *(() if settings.no_listen else ("listening",)),
            *(("polling",) if polling else ()),
            *(("ephemeral",) if ephemeral else ()),
        ),
        None if certificate is None else summary_of_pem(certificate.certificate_pem),
        servers,
        agent,
        read_work_directory(home / WORK) if work is None else work,
        disk_space(home),
        settings=settings,
    )
    weak = () if certificate is None else weaknesses(certificate, datetime.fromtimestamp(now, UTC))
    problems = (*((Remark("polling", problem),) if problem else ()), *problems_of(state))
    return replace(state, problems=problems, notes=tuple(notes_of(state, weak)))


def _polled_as(server: TrustedServer) -> str:
    """The address in the form in which a running agent tells it."""
    try:
        return normalise_address(polled_address(server.address or "", https=server.https).url)
    except TentacleError:
        return ""


def server_states(
    settings: Settings, environ: Mapping[str, str], live: AgentStatus | None
) -> tuple[tuple[ServerState, ...], str | None]:
    """The trusted servers, and what is wrong with an address that is to be polled."""
    problem, planned = None, {}
    try:
        plan = make_plan(settings, environ)
        planned = {(normalise_address(poll.address.url), poll.subscription): poll.connections for poll in plan.polls}
    except TentacleError as error:
        problem = error.message
    connected = {(normalise_address(one.address), one.subscription): one for one in (live.polled if live else ())}
    generations = {one.thumbprint: one.generation for one in (live.callers if live else ())}
    found = []
    for server in settings.servers:
        thumbprint = normalise_thumbprint(server.thumbprint)
        generation = generations.get(thumbprint)
        if server.style is not CommunicationStyle.TENTACLE_ACTIVE:
            passive = ServerState(thumbprint, False, server.address, server.subscription_id, generation=generation)
            found.append(passive)
            continue
        key = _polled_as(server), server.subscription_id or ""
        polled = connected.get(key)
        found.append(
            ServerState(
                thumbprint,
                True,
                server.address,
                server.subscription_id,
                asked=polled.asked if polled else planned.get(key, 0),
                up=polled.up if polled else None,
                links=polled.links if polled else (),
                generation=generation,
                https=server.https,
            )
        )
    return tuple(found), problem


def problems_of(state: InstanceState) -> Iterator[Remark]:
    """What keeps a running agent from its work."""
    agent, live = state.agent, state.agent.live
    option = option_for(state.instance, state.config)
    if agent.problem:
        yield Remark("agent", f"{agent.problem}.  {agent.advice}" if agent.advice else agent.problem)
    if agent.running and live is None:
        what = f"for {span(agent.age)}" if agent.own else "yet"
        text = f"the agent is running but has not written its state {what}: it has just started, or it hangs"
        yield Remark("agent", text)
    if live is not None and live.phase == STOPPING:
        yield Remark("agent", "the agent is about to stop: it refuses new scripts and waits for those that run")
    if agent.running and agent.drain is not None:
        text = f"draining {agent.drain}: new scripts are refused; end it with tentacle undrain{option}"
        yield Remark("drain", text)
    for server in state.servers:
        if live is not None and server.polled and server.up == 0:
            why = f" ({server.failures[0].error})" if server.failures else ""
            text = f"no connection to {server.address} is up{why}: see the log, or run: tentacle doctor{option}"
            yield Remark("connections", text)
    if live is not None and live.obstacle:
        yield Remark("scripts", f"no script can be run: {live.obstacle}")
    if agent.running and state.disk is not None and not state.disk.enough:
        needed = size(state.disk.needed)
        text = f"the disk has {size(state.disk.free)} free, and without {needed} no script is started"
        yield Remark("disk", text)


def shows_another(live: AgentStatus, thumbprint: str) -> bool:
    """Whether a running agent shows another certificate than this one, and does not say itself that it has to be
    restarted for it.
    """
    other = bool(live.thumbprint) and not same_thumbprint(live.thumbprint, thumbprint)
    return other and THE_CERTIFICATE not in live.waiting


def notes_of(state: InstanceState, weak: tuple[str, ...]) -> Iterator[Remark]:
    """What somebody should know although the agent works; `weak` is what speaks against the certificate."""
    last, live = state.agent.last, state.agent.live
    option = option_for(state.instance, state.config)
    if state.certificate is None:
        yield Remark("certificate", f"there is no certificate yet: run tentacle new-certificate{option}")
    if weak:
        text = f"the certificate should be replaced: {'; '.join(f'it {one}' for one in weak)}"
        yield Remark("certificate", text)
    if state.certificate and live is not None and shows_another(live, state.certificate.thumbprint):
        yield Remark("certificate in use", f"the agent still shows the certificate {live.thumbprint}: restart it")
    if not state.servers:
        init = f"tentacle init{option if state.instance else ''}"
        yield Remark("trust", f"no server is trusted: run {init}, or tentacle register-worker{option}")
    if live is not None and live.waiting:
        yield Remark("restart", f"changed, and in force only after a restart of the agent: {', '.join(live.waiting)}")
    for server in state.servers:
        if live is not None and server.polled and server.up is not None and 0 < server.up < server.asked:
            why = f" ({server.failures[0].error})" if server.failures else ""
            text = f"{server.asked - server.up} of {server.asked} connections to {server.address} are down{why}"
            yield Remark("connections", text)
    if live is not None and any(server.polled and server.up is None for server in state.servers):
        text = "the agent does not poll all servers of the configuration: restart it if that stays so"
        yield Remark("connections", text)
    if state.agent.running is False and last is not None and last.phase != STOPPED:
        text = f"the last agent (process {last.pid}) ended without a word: it was killed, or the machine went down"
        yield Remark("agent", text)
    if state.agent.running is False and state.agent.drain is not None:
        text = (
            f"draining {state.agent.drain}: the next agent takes no new scripts; end it with tentacle undrain{option}"
        )
        yield Remark("drain", text)
    if state.agent.running is False and state.work.scripts:
        yield Remark("scripts", f"{counted(len(state.work.scripts), 'script')} left to the next agent")
