"""How the state of an instance is shown: a page for people, a document for programs.

Pure: the state in, text out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tentacle import __version__
from tentacle.agent.drain import Drain
from tentacle.agent.status import STOPPING, LastScript
from tentacle.cli.frame.style import Style, columns, counted, iso, moment, size, span, wrapped
from tentacle.cli.status.state import InstanceState, ServerState
from tentacle.observe.text import visible

_SCRIPTS_SHOWN: Final = 20
_SENTENCE_INDENT: Final = 11


def state_text(state: InstanceState, style: Style, now: float) -> str:
    """The page.  Ends with a newline."""
    certificate, live = state.certificate, state.agent.live
    overview = [("Configuration", str(state.config)), ("Home", str(state.home))]
    overview.append(("Version", f"{__version__}; servers are told {state.reported_version}"))
    overview.append(("Mode", " and ".join(state.modes) or "neither listening nor polling"))
    if "listening" in state.modes:
        overview.append(("Listening on", (live.listening if live else None) or "nothing at the moment"))
    overview.append(("Thumbprint", certificate.thumbprint if certificate else "none"))
    if certificate:
        overview.append(("Certificate", f"{certificate.algorithm}, {certificate.key}, valid until {certificate.day}"))
    if state.disk:
        overview.append(("Free disk", f"{size(state.disk.free)} on the file system of {state.disk.path}"))
    if live is not None and live.called is not None and "listening" in state.modes:
        overview.append(("Last call", f"{span(now - live.called)} ago"))
    servers = [line for server in state.servers for line in _server_lines(server, style, now)] or ["  none"]
    lines = [
        *_agent_lines(state, style, now),
        *(f"  {style.bad('problem')}  {sentence(problem.text, style)}" for problem in state.problems),
        *(f"  {style.warn('note')}     {sentence(note.text, style)}" for note in state.notes),
        *("", *columns(overview, line_width=style.width)),
        *("", style.title("Trusted servers"), *servers),
        *("", style.title("Scripts"), *_script_lines(state, style, now)),
    ]
    return "\n".join(lines) + "\n"


def sentence(text: str, style: Style) -> str:
    """`text` behind a word such as `problem`, going on below itself."""
    return f"\n{' ' * _SENTENCE_INDENT}".join(wrapped(visible(text), style.width - _SENTENCE_INDENT))


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
        if state.problems and {one.about for one in state.problems} == {"drain"}:
            yield f"{style.warn(style.dot)} {name} is running, and {style.warn('draining')}"
        elif state.problems:
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


def _server_lines(server: ServerState, style: Style, now: float) -> list[str]:
    where = (server.address or "this machine") + (" (by HTTPS)" if server.https else "")
    rows = [("polled at" if server.polled else "may call", where)]
    rows += [("speaks", server.generation_text)] if server.generation_text else []
    if server.polled:
        connections = f"{server.asked} wanted" if server.up is None else f"{server.up} of {server.asked} up"
        rows += [("as", server.subscription or "(no subscription)"), ("connections", connections)]
        rows += [
            ("last failure", f"{one.error} ({span(now - (one.failed or now))} ago)") for one in server.failures[:1]
        ]
    return [f"  {visible(server.thumbprint)}", *columns(rows, indent=4, line_width=style.width)]


def _script_lines(state: InstanceState, style: Style, now: float) -> list[str]:
    work = state.work
    if work.problem:
        return [f"  cannot be seen: {visible(work.problem)}"]
    running = sum(not script.waits for script in work.scripts)
    taken = f"{'' if work.complete else 'at least '}{size(work.size)} in {state.home / 'Work'}"
    rows = [
        ("Running", str(running)),
        ("Waiting", str(len(work.scripts) - running)),
        ("Workspaces", f"{work.workspaces}, {taken}"),
    ]
    if state.agent.live and state.agent.live.launcher:
        rows.append(("Started by", f"process {state.agent.live.launcher}, in a unit of its own"))
    last = state.agent.live and state.agent.live.last_script
    if last and last.ended is not None:
        rows.append(("Last ended", f"{last.ticket}, exit code {last.exit_code}, {span(now - last.ended)} ago"))
    lines = columns(rows, line_width=style.width)
    for script in work.scripts[:_SCRIPTS_SHOWN]:
        since = f"for {span(now - script.since)}"
        doing = f"waits {since}" if script.waits else f"runs {since}, process {script.pid}"
        lines += columns([(script.ticket, doing)], line_width=style.width)
    more = len(work.scripts) - _SCRIPTS_SHOWN
    return [*lines, f"  and {counted(more, 'other')}"] if more > 0 else lines


def state_document(state: InstanceState) -> dict[str, Any]:
    """The same for programs; names in the manner of `show-configuration`, sizes in bytes."""
    agent, certificate, disk, work = state.agent, state.certificate, state.disk, state.work
    own, live = agent.own, agent.live
    return {
        "Version": __version__,
        "ReportedVersion": state.reported_version,
        "Instance": state.instance,
        "ConfigurationFilePath": str(state.config),
        "Complete": True,
        "Home": str(state.home),
        "Modes": list(state.modes),
        "Healthy": state.healthy,
        "Problems": [one.text for one in state.problems],
        "Notes": [one.text for one in state.notes],
        "Agent": {
            "Running": agent.running,
            "ProcessId": agent.pid or None,
            "User": agent.user,
            "Version": own.version if own else None,
            "Since": iso(own.since) if own else None,
            "Stopping": live is not None and live.phase == STOPPING,
            "Draining": bool(agent.running) and agent.drain is not None,
            "ListeningAddress": live.listening if live else None,
            "ScriptLauncherProcessId": live.launcher if live else None,
            "LastCall": iso(live.called) if live and live.called else None,
            "StateAgeSeconds": round(agent.age, 1) if agent.last else None,
            "StateIsCurrent": live is not None,
        },
        "Drain": drain_document(agent.drain),
        "Certificate": None
        if certificate is None
        else {
            "Thumbprint": certificate.thumbprint,
            "SignatureAlgorithm": certificate.algorithm,
            "Key": certificate.key,
            "NotAfter": iso(certificate.ends),
        },
        "TrustedOctopusServers": [_server_document(server) for server in state.servers],
        "Scripts": [
            {
                "Ticket": script.ticket,
                "State": "Waiting" if script.waits else "Running",
                "Since": iso(script.since),
                "ProcessId": script.pid,
            }
            for script in work.scripts
        ],
        "LastScript": _last_document(live.last_script if live else None),
        "Workspaces": {"Count": work.workspaces, "Bytes": work.size, "Complete": work.complete},
        "Disk": None if disk is None else {"Path": str(disk.path), "FreeBytes": disk.free, "NeededBytes": disk.needed},
    }


def _server_document(server: ServerState) -> dict[str, Any]:
    return {
        "Thumbprint": server.thumbprint,
        "CommsStyle": "TentacleActive" if server.polled else "TentaclePassive",
        "Address": server.address,
        "Polling": ("Https" if server.https else "Halibut") if server.polled else None,
        "SubscriptionId": server.subscription,
        "Generation": server.generation,
        "ConnectionsWanted": server.asked if server.polled else None,
        "ConnectionsUp": server.up,
        "Connections": [
            {
                "Number": link.number,
                "Up": link.up,
                "Since": None if link.since is None else iso(link.since),
                "LastError": link.error,
                "LastErrorAt": None if link.failed is None else iso(link.failed),
            }
            for link in server.links
        ],
    }


def drain_document(drain: Drain | None) -> dict[str, Any] | None:
    """Since when, by whom and why new scripts are refused; None when they are not."""
    return (
        None if drain is None else {"Since": iso(drain.since), "By": drain.by or None, "Reason": drain.reason or None}
    )


def _last_document(last: LastScript | None) -> dict[str, Any] | None:
    if last is None:
        return None
    ended = None if last.ended is None else iso(last.ended)
    return {
        "Ticket": last.ticket,
        "TaskId": last.task,
        "Since": iso(last.since),
        "Ended": ended,
        "ExitCode": last.exit_code,
    }
