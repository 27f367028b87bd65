"""The agent of one instance: whether it runs, what it is connected to, its last script.  Must not know any server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from tentacle.agent.status import STOPPING
from tentacle.cli.doctor.examined import ExaminedInstance
from tentacle.cli.doctor.finding import Finding, fail, ok, warn
from tentacle.cli.frame.style import moment, span
from tentacle.cli.status.state import AgentState, shows_another
from tentacle.disk import user_name
from tentacle.errors import TentacleError
from tentacle.host.systemctl import BOOTED, Systemctl
from tentacle.host.unit import service_name


def from_outside(instance: ExaminedInstance) -> Sequence[Finding]:
    """Whether an agent runs, as everybody may see it."""
    view = instance.outside
    if view is None:
        return []
    if view.running:
        said = f" ({view.service.status})" if view.service is not None and view.service.status else ""
        return [ok("agent", f"{f'process {view.pid}' if view.pid else 'it'} is running{said}")]
    if view.running is None:
        return [warn("agent", "not known whether it is running", "Run this as root, or as the user of the agent.")]
    return [warn("agent", "it is not running", f"As root: tentacle service{instance.option} --start")]


def agent(instance: ExaminedInstance) -> Sequence[Finding]:
    """Whether an agent runs, reports its state, takes scripts, and is the right user's."""
    state = instance.agent
    if state is None:
        return []
    found = [_agent(instance, state)]
    if state.drain is not None:
        which = "new scripts are refused" if state.running else "the next agent takes no new scripts"
        found.append(warn("drain", f"draining {state.drain}: {which}", f"tentacle undrain{instance.option}"))
    live = state.live
    if live is not None and live.waiting:
        text = f"changed, but in force only after a restart of the agent: {', '.join(live.waiting)}"
        found.append(warn("restart", text, "Restart it; scripts that run go on meanwhile."))
    if live is not None and live.obstacle:
        found.append(
            fail("scripts", f"none can be run: {live.obstacle}", "Mend that; the agent looks again by itself.")
        )
    own = instance.certificate
    if live is not None and own is not None and shows_another(live, own.thumbprint):
        found.append(warn("certificate in use", f"the agent still shows {live.thumbprint}", "Restart the agent."))
    return found


def _start(instance: ExaminedInstance) -> str:
    """The command that starts the agent: as a service where that is installed, or this user can install it."""
    if BOOTED.is_dir() and instance.name:
        with suppress(TentacleError):
            installed = Systemctl().state(service_name(instance.name)).is_installed
            if installed or os.geteuid() == 0:
                return f"tentacle service{instance.option}{'' if installed else ' --install'} --start"
    return f"tentacle agent{instance.option}"


def _agent(instance: ExaminedInstance, state: AgentState) -> Finding:
    if state.running is None:
        return warn("agent", state.problem or "not known", "Run this as the user of the agent, or as root.")
    if not state.running:
        return warn("agent", f"it is not running{f'; it was {state.seen}' if state.seen else ''}", _start(instance))
    if state.live is None or state.problem:
        text = f"{state.process} runs"
        if state.problem:
            text = state.problem if state.advice else f"{state.process} runs, but {state.problem}"
        elif state.own:
            text = f"{state.process} has the lock of {instance.home}, but its state is {span(state.age)} old"
        if state.problem:
            advice = state.advice or "If that stays so, restart it: scripts that run go on meanwhile."
            return fail("agent", text, f"{advice}  (Its log: {instance.log_file})")
        return warn("agent", text, f"It has just started, or it hangs: look at {instance.log_file}")
    if state.live.phase == STOPPING:
        text = f"{state.process} is about to stop: it refuses new scripts and waits for those that run"
        return warn("agent", text, "Wait for its end, or send the signal again to end it at once.")
    owner = user_name(instance.config.stat().st_uid) if instance.config else state.user
    if state.user and state.user != owner:
        text = f"{state.process} is the agent, but the configuration belongs to {owner}"
        return warn("agent", text, f"Stop it and start it as {owner}: what it writes now, {owner} may not write.")
    return ok("agent", f"running since {moment(state.live.since)} ({state.process}, version {state.live.version})")


def connections(instance: ExaminedInstance) -> Iterator[Finding]:
    """The connections that the running agent has to each server, and why others are down."""
    state = instance.state
    live = None if state is None else state.agent.live
    if state is None or live is None:
        return
    for server in (one for one in state.servers if one.polled):
        if server.up is None:
            found = f"the running agent does not poll {server.address}"
            yield warn("connections", found, "It has just been changed, or the agent must be restarted.")
            continue
        text = f"{server.up} of {server.asked} to {server.address} up"
        if server.up >= server.asked:
            yield ok("connections", text)
            continue
        failure = next(iter(server.failures), None)
        when = f" {span(instance.now - failure.failed)} ago" if failure is not None and failure.failed else ""
        why = f"; the last failure{when}: {failure.error}" if failure is not None else "; they are being made"
        advice = f"The polling port is looked at below; the agent's log is {instance.log_file}"
        yield (warn if server.up else fail)("connections", f"{text}{why}", advice)
    for server in (one for one in state.servers if one.generation_text):
        yield ok("server", f"{server.thumbprint} speaks {server.generation_text}")
    if live.called is not None and "listening" in state.modes:
        yield ok("last call", f"a server was answered {span(instance.now - live.called)} ago")


def last_script(instance: ExaminedInstance) -> Sequence[Finding]:
    """The script that was asked for last."""
    live = None if instance.state is None else instance.state.agent.live
    last = None if live is None else live.last_script
    if last is None:
        return []
    if last.ended is None:
        return [ok("last script", f"{last.ticket} runs or waits, for {span(instance.now - last.since)}")]
    ago = span(instance.now - last.ended)
    return [ok("last script", f"{last.ticket} ended with exit code {last.exit_code} {ago} ago")]
