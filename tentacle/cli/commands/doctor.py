"""`doctor`: looks for what keeps a worker from working, and says what to do.  Not a command of the original."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tentacle.agent.plan import polled_address
from tentacle.cli.doctor.applications import applications
from tentacle.cli.doctor.bundle import make_bundle
from tentacle.cli.doctor.examined import ExaminedInstance, clones_of
from tentacle.cli.doctor.finding import Level, ReportSection, fail, local_probe, section, warn
from tentacle.cli.doctor.instance import instance_probes, unmentioned
from tentacle.cli.doctor.listening import listening_probes
from tentacle.cli.doctor.machine import machine_probes
from tentacle.cli.doctor.octopus import ExaminedServer, ask
from tentacle.cli.doctor.polling import (
    PollingPort,
    planned_polls,
    polling_findings,
    polling_port,
    polling_section,
    polling_target,
)
from tentacle.cli.doctor.report import failed, report_document, report_text
from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import format_option, instance_options, together
from tentacle.cli.frame.output_file import write_secret
from tentacle.cli.frame.render import trace
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.style import Style
from tentacle.cli.frame.values import output_format, port_number
from tentacle.cli.registration.credentials import credentials_are_given, required_access
from tentacle.cli.registration.options import ApiOptions, api_options, extra_api_options, https_option
from tentacle.cli.registration.server_access import (
    ServerRoute,
    address_to_poll,
    check_addresses,
    check_https,
    https_address,
    polling_proxy,
    route_to_register,
)
from tentacle.cli.status.outside import hidden_instance, outside_view
from tentacle.cli.status.state import instance_state
from tentacle.cli.status.work_directory import WorkDirectory
from tentacle.disk import is_directory, user_name
from tentacle.errors import EXIT_OK, EXIT_USER_ERROR, TentacleError
from tentacle.observe.text import visible
from tentacle.octopus.credentials import Credentials
from tentacle.records import dataclass
from tentacle.settings.instances import Instance, instance_directories
from tentacle.settings.model import Settings, resolved_home
from tentacle.settings.policy_file import policy_places, read_policy
from tentacle.transport.address import Address
from tentacle.transport.proxy_logins import ProxyLogins
from tentacle.transport.proxy_refusals import KeptRefusals

NOTES: Final = """\
Looks at this machine, the instance, its agent and the way to its servers, and
says what to do about what it finds.  Changes nothing.  With --server it looks
at that server too, also before there is an instance; with an API key it
compares what the server knows of this machine with what is set up here.

Each line begins with ok, warn or FAIL.  No step takes longer than 5 seconds.
Exit codes: 0  nothing failed
            1  something did
"""


@dataclass(frozen=True)
class ServerOptions:
    """How the server is asked, and where it is polled.  `credentials` of `None`: only what everybody may see."""

    space: str | None
    comms_address: str | None
    comms_port: int | None
    web_socket: str | None
    https: bool
    credentials: Credentials | None = None

    @property
    def name_a_place(self) -> bool:
        """Whether they say where the server is polled."""
        return bool(self.comms_address or self.comms_port or self.web_socket or self.https)


@command("doctor", quiet=True, notes=NOTES)
@instance_options
@option("--bundle", help="Writes what was found, the settings and the end of the log to this tar.gz, no secrets")
@together(
    "options",
    ServerOptions,
    option("--space", help="The space to look for this machine in; the default is the Default space"),
    option("--server-comms-address", "comms_address", help="The address to poll, if it is not the server's own"),
    option("--server-comms-port", "comms_port", type=str, callback=port_number, help="The port to poll; else 10943"),
    option("--server-web-socket", "web_socket", help="The web socket to poll, wss://HOST/PATH, instead of a port"),
)
@api_options
@format_option
@extra_api_options
@https_option
def doctor(
    session: CommandSession,
    *,
    where: InstanceOptions,
    api: ApiOptions,
    output: str | None,
    bundle: str | None,
    options: ServerOptions,
) -> CommandResult:
    """All probes run at the same time, each step for five seconds at most."""
    as_json = output_format(output) == "json"
    target = session.path(bundle) if bundle else None
    if not api.server and options.name_a_place:
        raise TentacleError("Where a server is polled goes with --server.", hint="e.g. --server=https://your-octopus")
    instance = _examined_instance(session, where)
    # Much can be looked at without credentials.
    given = api.server and credentials_are_given(session, api)
    credentials = required_access(session, api).credentials if given else None
    sections = asyncio.run(_examine(session, instance, api, replace(options, credentials=credentials)))
    code = EXIT_USER_ERROR if failed(sections) else EXIT_OK
    report, document = report_text(sections, Style()), report_document(sections, instance.name)
    problems: tuple[str, ...] = ()
    written = ""
    if target is not None:
        try:
            write_secret(target, make_bundle(instance, session.environ, session.redactor, report, document))
            written = f"Written to {visible(str(target))}: have a look into it before you send it to anybody.\n"
        except TentacleError as error:
            # No reason to hold back what was found.
            problems = tuple(text for text in (error.message, error.hint) if text)
            code = error.exit_code
    redact = session.redactor.redact
    if as_json:
        return CommandResult(data=redact(json.dumps(document, indent=2)) + "\n", problems=problems, exit_code=code)
    style = Style.of(session.process.stdout, session.environ)
    return CommandResult(data=redact(report_text(sections, style)) + written, problems=problems, exit_code=code)


def _examined_instance(session: CommandSession, where: InstanceOptions) -> ExaminedInstance:
    """The instance that the options name; a damaged one is examined too, and so is a machine without any."""
    now = session.process.clock()
    try:
        hidden = hidden_instance(session.registry, where, session.process.cwd)
        if hidden is not None:
            me = user_name(os.geteuid())
            problem = TentacleError(f"{me} may not read it", hint="For the rest run this as root or as its user.")
            outside = outside_view(hidden, now)
            return ExaminedInstance(hidden.name, hidden.config_path, problem=problem, now=now, outside=outside)
        file = session.choose(where, logged=False)
        settings = session.overridden(file.load())
    except TentacleError as problem:
        known = session.instance
        if known is None and (where.instance or "").strip():
            known = session.registry.find(where.instance or "")
        elif known is None and (where.config or "").strip():
            known = Instance(None, session.path(where.config or ""))
        if known is None:
            none_yet = TentacleError("there is no instance on this machine yet")
            return ExaminedInstance(problem=problem if session.registry.list_all() else none_yet, now=now)
        folder = known.config_path.parent
        home = folder if is_directory(folder) else None
        return ExaminedInstance(known.name, known.config_path, home, None, problem, now)
    home = resolved_home(settings, file.path)
    clones = tuple(clones_of(file.path, settings.certificate, session.registry))
    state = instance_state(session.instance_name, file.path, home, settings, session.environ, now, WorkDirectory())
    directory = instance_directories(session.environ)[0]
    policy = read_policy(policy_places(file.path, session.instance_name, directory))
    return ExaminedInstance(session.instance_name, file.path, home, state.settings, None, now, clones, state, policy)


async def _examine(
    session: CommandSession, instance: ExaminedInstance, api: ApiOptions, options: ServerOptions
) -> Sequence[ReportSection]:
    """All sections, which are found out at the same time."""
    settings = instance.settings
    # Refused before anything is looked at: programs that were asked would run on.
    route = route_to_register(api.server or "", api, settings or Settings()) if (api.server or "").strip() else None
    polls, problem = planned_polls(settings, session.environ) if settings else ([], None)
    probes = [
        *instance_probes(instance),
        local_probe("applications", lambda: applications(instance)),
        *(listening_probes(instance, settings) if settings else []),
    ]
    if problem is not None:
        probes.append(local_probe("polling", lambda: [problem]))
    # All sections run at once, and many share a proxy: a login that it refuses is shown to it once.
    refusals = None if instance.home is None else KeptRefusals(instance.home)
    logins = ProxyLogins(pause=math.inf, refusals=refusals)
    sections = [
        section("This machine", machine_probes(instance, session.environ)),
        section(f"Instance {instance.name or instance.config or ''}".strip(), probes),
        *(polling_section(polling_port(poll, settings or Settings()), logins) for poll in polls),
    ]
    if route is not None:
        sections.append(_server_section(route, instance, api, options, logins, is_polled=bool(polls)))
    machine, own, *others = await asyncio.gather(*sections)
    if instance.state is not None:
        own = replace(own, findings=(*own.findings, *unmentioned(instance.state, (machine, own, *others))))
    return machine, own, *others


def _place_to_poll(route: ServerRoute, options: ServerOptions) -> Address:
    """Where a registration with these options would poll the server.  Raises `TentacleError`."""
    place = options.comms_address, options.comms_port
    check_addresses(options.web_socket, options.comms_address)
    check_https(options.https, options.web_socket, style="--comms-style", polling=True)
    if options.https:
        return polled_address(https_address(route, *place), https=True)
    return polled_address(address_to_poll(route.address.origin, options.web_socket, *place))


async def _server_section(
    route: ServerRoute,
    instance: ExaminedInstance,
    api: ApiOptions,
    options: ServerOptions,
    logins: ProxyLogins,
    *,
    is_polled: bool,
) -> ReportSection:
    """The server that was named, then where it is polled: as the options say, or unless servers are polled anyway."""
    settings = instance.settings or Settings()
    server = ExaminedServer(route, options.credentials, options.space or None, trace, logins=logins)
    answered = await ask(server, instance)
    findings = list(answered.findings)
    if (options.name_a_place or not is_polled) and not any(
        one.check == "name" and one.level is Level.FAIL for one in findings
    ):
        needed = instance.settings is None or settings.no_listen or options.name_a_place
        try:
            at = await asyncio.to_thread(_place_to_poll, route, options)
        except TentacleError as error:
            findings.append(
                (fail if needed else warn)("poll", error.message, error.hint or "See --server-comms-address.")
            )
        else:
            target = polling_target(at.host, at.port, polling_proxy(settings), settings)
            # Which certificate is the right one of a web server, or of who opens TLS connections, nobody says.
            expected = None if options.web_socket or (options.https and api.ca_file) else answered.thumbprint
            source = "as its REST interface says"
            port = PollingPort(target, expected, needed, source, web_socket=at.web_socket, https=at.https)
            findings += [replace(one, check=f"poll {one.check}") for one in await polling_findings(port, logins)]
    return ReportSection(f"Octopus Server {route.address.display}", tuple(findings))
