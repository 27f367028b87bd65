"""`doctor`: looks for whatever keeps a worker from working, and says what to do.  Not a command of the original."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yarl import URL

from tentacle.cli.doctor.bundle import make_bundle
from tentacle.cli.doctor.finding import Finding, Level, Probe, Section, section
from tentacle.cli.doctor.instance import Patient, instance_probes
from tentacle.cli.doctor.machine import machine_probes
from tentacle.cli.doctor.octopus import Server, ask
from tentacle.cli.doctor.reach import Target
from tentacle.cli.doctor.report import failed, report_document, report_text
from tentacle.cli.doctor.wire import Comms, comms_findings, comms_of, comms_section, listening_probes, polls_of
from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import format_option, in_order, instance_options
from tentacle.cli.frame.output_file import write_secret
from tentacle.cli.frame.render import trace
from tentacle.cli.frame.result import Result
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.style import Style
from tentacle.cli.frame.values import output_format, whole_number
from tentacle.cli.registration.credentials import credentials_are_given, required_access
from tentacle.cli.registration.options import ApiOptions, api_options, extra_api_options
from tentacle.cli.registration.server_access import polling_proxy, route_to_register
from tentacle.errors import EXIT_OK, EXIT_USER_ERROR, TentacleError
from tentacle.observe.text import visible
from tentacle.octopus.address import polling_address
from tentacle.octopus.credentials import Credentials
from tentacle.settings.errors import SettingsError
from tentacle.settings.files import is_directory
from tentacle.settings.instances import Instance
from tentacle.settings.model import Settings, resolved_home
from tentacle.settings.store import SettingsFile
from tentacle.settings.trust import same_thumbprint

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
class Wishes:
    """What was asked for, besides the instance and the server."""

    space: str | None
    comms_address: str | None
    comms_port: int | None
    credentials: Credentials | None


@command("doctor", quiet=True, notes=NOTES)
@instance_options
@in_order(
    option("--bundle", help="Writes what was found, the settings and the end of the log to this tar.gz, no secrets"),
    option("--space", help="The space to look for this machine in; the default is the Default space"),
    option("--server-comms-address", "comms_address", help="The address to poll, if it is not the server's own"),
    option("--server-comms-port", "comms_port", type=str, callback=whole_number, help="The port to poll; else 10943"),
)
@api_options
@format_option
@extra_api_options
def doctor(
    session: CommandSession,
    *,
    where: InstanceOptions,
    api: ApiOptions,
    output: str | None,
    bundle: str | None,
    space: str | None,
    comms_address: str | None,
    comms_port: int | None,
) -> Result:
    """Everything at once, each step for five seconds at most."""
    as_json = output_format(output) == "json"
    target = session.path(bundle) if bundle else None
    patient = _patient(session, where)
    credentials = _credentials(session, api) if api.server else None
    wishes = Wishes(space, comms_address, comms_port, credentials)
    sections = asyncio.run(_examine(session, patient, api, wishes))
    code = EXIT_USER_ERROR if failed(sections) else EXIT_OK
    problem = _write_bundle(session, patient, sections, target) if target else None
    problems = tuple(text for text in (problem.message, problem.hint) if text) if problem else ()
    code = problem.exit_code if problem else code
    redact = session.redactor.redact
    if as_json:
        data = redact(json.dumps(report_document(sections), indent=2)) + "\n"
        return Result(data=data, problems=problems, exit_code=code)
    style = Style.of(session.process.stdout, session.environ)
    text = redact(report_text(sections, style))
    if target is not None and problem is None:
        text += f"Written to {visible(str(target))}: have a look into it before you send it to anybody.\n"
    return Result(data=text, problems=problems, exit_code=code)


def _patient(session: CommandSession, where: InstanceOptions) -> Patient:
    """The instance; a damaged one is a patient too, and so is a machine without any."""
    now = session.process.clock()
    try:
        file = session.choose(where)
        settings = session.overridden(file.load())
    except TentacleError as problem:
        known = session.instance or _meant(session, where)
        if known is None:
            none_yet = TentacleError("there is no instance on this machine yet")
            return Patient(problem=problem if session.registry.list_all() else none_yet, now=now)
        folder = known.config_path.parent
        return Patient(known.name, known.config_path, folder if is_directory(folder) else None, None, problem, now)
    home = resolved_home(settings, file.path)
    twins = tuple(_twins(session, file.path, settings))
    return Patient(session.instance_name, file.path, home, settings, None, now, twins)


def _twins(session: CommandSession, config: Path, settings: Settings) -> Iterator[str]:
    """Other instances of this machine with the same certificate, as far as they can be read."""
    with suppress(SettingsError):
        for one in session.registry.list_all():
            if settings.certificate is None or one.config_path == config:
                continue
            with suppress(SettingsError):
                theirs = SettingsFile(one.config_path).load().certificate
                if theirs is not None and same_thumbprint(theirs.thumbprint, settings.certificate.thumbprint):
                    yield one.name or str(one.config_path)


def _meant(session: CommandSession, where: InstanceOptions) -> Instance | None:
    """The instance that was named, though it cannot be used.  Raises `TentacleError` for one that is not there."""
    if (where.instance or "").strip():
        return session.registry.find(where.instance or "")
    if not (where.config or "").strip():
        return None
    return Instance(None, session.path(where.config or ""))


async def _examine(session: CommandSession, patient: Patient, api: ApiOptions, wishes: Wishes) -> Sequence[Section]:
    """All sections, side by side."""
    settings = patient.settings
    polls, problem = polls_of(settings, session.environ) if settings else ([], None)
    wire: list[Probe] = listening_probes(patient, settings) if settings else []
    if problem is not None:
        wire.append(_known(problem))
    work = [
        section("This machine", machine_probes(patient.name if patient.config else None, session.environ)),
        section(f"Instance {patient.name or patient.config or ''}".strip(), [*instance_probes(patient), *wire]),
        *(comms_section(comms_of(poll)) for poll in polls),
    ]
    if (api.server or "").strip():
        work.append(_server_section(patient, api, wishes, also_comms=not polls))
    return await asyncio.gather(*work)


def _known(finding: Finding) -> Probe:
    async def probe() -> Sequence[Finding]:
        return [finding]

    return probe


async def _server_section(patient: Patient, api: ApiOptions, wishes: Wishes, *, also_comms: bool) -> Section:
    """The server that was named, and then its communications port, unless that is polled already."""
    settings = patient.settings or Settings()
    route = route_to_register(api.server or "", api, settings)
    server = Server(route, wishes.credentials, wishes.space or None, trace)
    asked = await ask(server, patient)
    findings = list(asked.findings)
    if also_comms and not any(one.check == "name" and one.level is Level.FAIL for one in findings):
        polled = URL(polling_address(route.address.origin, wishes.comms_address, wishes.comms_port))
        needed = patient.settings is None or patient.settings.no_listen
        target = Target(polled.host or "", polled.port or 0, polling_proxy(settings))
        comms = await comms_findings(Comms(target, asked.thumbprint, needed, "as its REST interface says"))
        findings += [Finding(f"poll {one.check}", one.level, one.found, one.advice) for one in comms]
    return Section(f"Octopus Server {route.address.display}", tuple(findings))


def _credentials(session: CommandSession, api: ApiOptions) -> Credentials | None:
    """None where no credentials were given in any way: much can be looked at without."""
    return required_access(session, api).credentials if credentials_are_given(session, api) else None


def _write_bundle(
    session: CommandSession, patient: Patient, sections: Sequence[Section], target: Path
) -> TentacleError | None:
    """Why it could not be written, which is no reason to keep back what was found."""
    content = make_bundle(
        patient, session.environ, session.redactor, report_text(sections, Style()), report_document(sections)
    )
    try:
        write_secret(target, content)
    except TentacleError as error:
        return error
    return None
