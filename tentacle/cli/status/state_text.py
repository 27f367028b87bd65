"""How the state of an instance is told: a page for people, a document for programs.

Pure: the state in, text out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tentacle.agent.status import DRAINING, STOPPED
from tentacle.cli.frame.style import Style, columns, counted, iso, moment, size, span, wrapped
from tentacle.cli.status.state import Agent, Server, State
from tentacle.observe.text import visible

_SCRIPTS_SHOWN = 20


def state_text(state: State, style: Style, now: float) -> str:
    """The page.  Ends with a newline."""
    lines = [_headline(state, style)]
    lines += [f"  {line}" for line in _since(state.agent, now)]
    lines += [f"  {style.bad('problem')}  {line}" for line in _told(state.problems, "           ")]
    lines += [f"  {style.warn('note')}     {line}" for line in _told(state.notes, "           ")]
    lines += ["", *columns(_facts(state))]
    lines += ["", style.title("Trusted servers"), *_servers(state)]
    lines += ["", style.title("Scripts"), *_scripts(state, now)]
    return "\n".join(lines) + "\n"


def _told(sentences: tuple[str, ...], indent: str) -> Iterator[str]:
    for sentence in sentences:
        yield f"\n{indent}".join(wrapped(visible(sentence), 80 - len(indent)))


def _headline(state: State, style: Style) -> str:
    name = visible(state.instance or str(state.config))
    if state.agent.running is None:
        return f"{style.warn(style.dot)} {style.title(name)}: not known whether it is running"
    if not state.agent.running:
        return f"{style.faint(style.dot)} {style.title(name)} is {style.title('not running')}"
    if state.problems:
        return f"{style.bad(style.dot)} {style.title(name)} is running, but {style.bad('not healthy')}"
    return f"{style.good(style.dot)} {style.title(name)} is {style.good('running')}"


def _since(agent: Agent, now: float) -> Iterator[str]:
    last = agent.last
    if agent.running:
        process = f"process {agent.pid}" if agent.pid else "process unknown"
        process += f" as {agent.user}" if agent.user else ""
        mine = last is not None and agent.pid in (0, last.pid)
        if last is None or not mine:
            yield process
            return
        yield f"since {moment(last.since)} ({span(now - last.since)}), {process}, version {visible(last.version)}"
        if agent.live is None:
            yield f"what follows is {span(agent.age)} old"
    elif last is not None:
        ended = "stopped at" if last.phase == STOPPED else "last seen at"
        yield f"{ended} {moment(last.written)} ({span(agent.age)} ago)"


def _facts(state: State) -> list[tuple[str, str]]:
    certificate = state.certificate
    rows = [("Configuration", str(state.config)), ("Home", str(state.home))]
    rows.append(("Mode", " and ".join(state.modes) or "neither listening nor polling"))
    if "listening" in state.modes:
        live = state.agent.live
        rows.append(("Listening on", (live.listening if live else None) or "nothing at the moment"))
    rows.append(("Thumbprint", certificate.thumbprint if certificate else "none"))
    if certificate:
        rows.append(("Certificate", f"{certificate.algorithm}, {certificate.key}, valid until {certificate.day}"))
    if state.disk:
        rows.append(("Free disk", f"{size(state.disk.free)} on the file system of {state.disk.path}"))
    return rows


def _servers(state: State) -> list[str]:
    if not state.servers:
        return ["  none"]
    lines = []
    for server in state.servers:
        lines.append(f"  {visible(server.thumbprint)}")
        rows = [("polled at" if server.polled else "may call", server.address or "this machine")]
        if server.polled:
            rows.append(("as", server.subscription or "(no subscription)"))
            rows.append(("connections", _connections(server)))
        lines += columns(rows, indent=4)
    return lines


def _connections(server: Server) -> str:
    return f"{server.asked} wanted" if server.up is None else f"{server.up} of {server.asked} up"


def _scripts(state: State, now: float) -> list[str]:
    work = state.work
    if work.problem:
        return [f"  cannot be seen: {visible(work.problem)}"]
    running = sum(not script.waits for script in work.scripts)
    rows = [("Running", str(running)), ("Waiting", str(len(work.scripts) - running))]
    least = "at least " if work.cut else ""
    rows.append(("Workspaces", f"{work.workspaces}, {least}{size(work.size)} in {state.home / 'Work'}"))
    lines = columns(rows)
    for script in work.scripts[:_SCRIPTS_SHOWN]:
        since = f"for {span(now - script.since)}"
        lines += columns([(script.ticket, f"waits {since}" if script.waits else f"runs {since}, process {script.pid}")])
    more = len(work.scripts) - _SCRIPTS_SHOWN
    return [*lines, f"  and {counted(more, 'other')}"] if more > 0 else lines


def state_document(state: State) -> dict[str, Any]:
    """The same for programs; names in the manner of `show-configuration`, sizes in bytes."""
    certificate, disk = state.certificate, state.disk
    return {
        "Instance": state.instance,
        "ConfigurationFilePath": str(state.config),
        "Home": str(state.home),
        "Modes": list(state.modes),
        "Healthy": state.healthy,
        "Problems": list(state.problems),
        "Notes": list(state.notes),
        "Agent": _agent_document(state.agent),
        "Certificate": None
        if certificate is None
        else {
            "Thumbprint": certificate.thumbprint,
            "SignatureAlgorithm": certificate.algorithm,
            "Key": certificate.key,
            "NotAfter": iso(certificate.ends),
        },
        "TrustedServers": [_server_document(server) for server in state.servers],
        "Scripts": [
            {
                "Ticket": script.ticket,
                "State": "Waiting" if script.waits else "Running",
                "Since": iso(script.since),
                "ProcessId": script.pid,
            }
            for script in state.work.scripts
        ],
        "Workspaces": {"Count": state.work.workspaces, "Bytes": state.work.size, "Complete": not state.work.cut},
        "Disk": None if disk is None else {"Path": str(disk.path), "FreeBytes": disk.free, "NeededBytes": disk.needed},
    }


def _agent_document(agent: Agent) -> dict[str, Any]:
    last, live = agent.last, agent.live
    return {
        "Running": agent.running,
        "ProcessId": agent.pid or None,
        "User": agent.user,
        "Since": iso(last.since) if last and agent.running else None,
        "Draining": live is not None and live.phase == DRAINING,
        "ListeningAddress": live.listening if live else None,
        "StateAgeSeconds": round(agent.age, 1) if last else None,
        "StateIsCurrent": live is not None,
    }


def _server_document(server: Server) -> dict[str, Any]:
    return {
        "Thumbprint": server.thumbprint,
        "CommunicationStyle": "TentacleActive" if server.polled else "TentaclePassive",
        "Address": server.address,
        "SubscriptionId": server.subscription,
        "ConnectionsWanted": server.asked if server.polled else None,
        "ConnectionsUp": server.up,
    }
