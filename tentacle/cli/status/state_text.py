"""How the state of an instance is shown: a page for people, a document for programs.

Pure: the state in, text out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tentacle.agent.status import DRAINING
from tentacle.cli.frame.style import WIDTH, Style, columns, counted, iso, moment, size, span, wrapped
from tentacle.cli.status.state import InstanceState, ServerState
from tentacle.observe.text import visible

_SCRIPTS_SHOWN: Final = 20
_SENTENCE_INDENT: Final = 11


def state_text(state: InstanceState, style: Style, now: float) -> str:
    """The page.  Ends with a newline."""
    certificate, live = state.certificate, state.agent.live
    overview = [("Configuration", str(state.config)), ("Home", str(state.home))]
    overview.append(("Mode", " and ".join(state.modes) or "neither listening nor polling"))
    if "listening" in state.modes:
        overview.append(("Listening on", (live.listening if live else None) or "nothing at the moment"))
    overview.append(("Thumbprint", certificate.thumbprint if certificate else "none"))
    if certificate:
        overview.append(("Certificate", f"{certificate.algorithm}, {certificate.key}, valid until {certificate.day}"))
    if state.disk:
        overview.append(("Free disk", f"{size(state.disk.free)} on the file system of {state.disk.path}"))
    servers = [line for server in state.servers for line in _server_lines(server)] or ["  none"]
    lines = [
        *_agent_lines(state, style, now),
        *(f"  {style.bad('problem')}  {_sentence(problem)}" for problem in state.problems),
        *(f"  {style.warn('note')}     {_sentence(note)}" for note in state.notes),
        *("", *columns(overview)),
        *("", style.title("Trusted servers"), *servers),
        *("", style.title("Scripts"), *_script_lines(state, now)),
    ]
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return f"\n{' ' * _SENTENCE_INDENT}".join(wrapped(visible(text), WIDTH - _SENTENCE_INDENT))


def _agent_lines(state: InstanceState, style: Style, now: float) -> Iterator[str]:
    """Whether the agent runs, and since when or until when."""
    agent, own = state.agent, state.agent.own
    name = style.title(visible(state.instance or str(state.config)))
    if agent.running is None:
        yield f"{style.warn(style.dot)} {name}: not known whether it is running"
    elif not agent.running:
        yield f"{style.faint(style.dot)} {name} is {style.title('not running')}"
        if agent.seen:
            yield f"  {agent.seen} ({span(agent.age)} ago)"
    else:
        if state.problems:
            yield f"{style.bad(style.dot)} {name} is running, but {style.bad('not healthy')}"
        else:
            yield f"{style.good(style.dot)} {name} is {style.good('running')}"
        if own is None:
            yield f"  {agent.process}"
        else:
            began = f"since {moment(own.since)} ({span(now - own.since)})"
            yield f"  {began}, {agent.process}, version {visible(own.version)}"
            if agent.live is None:
                yield f"  what follows is {span(agent.age)} old"


def _server_lines(server: ServerState) -> list[str]:
    rows = [("polled at" if server.polled else "may call", server.address or "this machine")]
    if server.polled:
        connections = f"{server.asked} wanted" if server.up is None else f"{server.up} of {server.asked} up"
        rows += [("as", server.subscription or "(no subscription)"), ("connections", connections)]
    return [f"  {visible(server.thumbprint)}", *columns(rows, indent=4)]


def _script_lines(state: InstanceState, now: float) -> list[str]:
    work = state.work
    if work.problem:
        return [f"  cannot be seen: {visible(work.problem)}"]
    running = sum(not script.waits for script in work.scripts)
    taken = f"{'' if work.complete else 'at least '}{size(work.size)} in {state.home / 'Work'}"
    lines = columns(
        [
            ("Running", str(running)),
            ("Waiting", str(len(work.scripts) - running)),
            ("Workspaces", f"{work.workspaces}, {taken}"),
        ]
    )
    for script in work.scripts[:_SCRIPTS_SHOWN]:
        since = f"for {span(now - script.since)}"
        lines += columns([(script.ticket, f"waits {since}" if script.waits else f"runs {since}, process {script.pid}")])
    more = len(work.scripts) - _SCRIPTS_SHOWN
    return [*lines, f"  and {counted(more, 'other')}"] if more > 0 else lines


def state_document(state: InstanceState) -> dict[str, Any]:
    """The same for programs; names in the manner of `show-configuration`, sizes in bytes."""
    agent, certificate, disk, work = state.agent, state.certificate, state.disk, state.work
    own, live = agent.own, agent.live
    return {
        "Instance": state.instance,
        "ConfigurationFilePath": str(state.config),
        "Home": str(state.home),
        "Modes": list(state.modes),
        "Healthy": state.healthy,
        "Problems": list(state.problems),
        "Notes": list(state.notes),
        "Agent": {
            "Running": agent.running,
            "ProcessId": agent.pid or None,
            "User": agent.user,
            "Since": iso(own.since) if own else None,
            "Draining": live is not None and live.phase == DRAINING,
            "ListeningAddress": live.listening if live else None,
            "StateAgeSeconds": round(agent.age, 1) if agent.last else None,
            "StateIsCurrent": live is not None,
        },
        "Certificate": None
        if certificate is None
        else {
            "Thumbprint": certificate.thumbprint,
            "SignatureAlgorithm": certificate.algorithm,
            "Key": certificate.key,
            "NotAfter": iso(certificate.ends),
        },
        "TrustedServers": [
            {
                "Thumbprint": server.thumbprint,
                "CommunicationStyle": "TentacleActive" if server.polled else "TentaclePassive",
                "Address": server.address,
                "SubscriptionId": server.subscription,
                "ConnectionsWanted": server.asked if server.polled else None,
                "ConnectionsUp": server.up,
            }
            for server in state.servers
        ],
        "Scripts": [
            {
                "Ticket": script.ticket,
                "State": "Waiting" if script.waits else "Running",
                "Since": iso(script.since),
                "ProcessId": script.pid,
            }
            for script in work.scripts
        ],
        "Workspaces": {"Count": work.workspaces, "Bytes": work.size, "Complete": work.complete},
        "Disk": None if disk is None else {"Path": str(disk.path), "FreeBytes": disk.free, "NeededBytes": disk.needed},
    }
