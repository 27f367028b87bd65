"""The Octopus Server's REST interface: who answers, whether clocks agree, and what it knows of this machine.

Knows the root document, `certificate-global` and machines by thumbprint (tentacle-cli.md 5.4 to 5.6).  Signs in only
when it was given credentials, and only once it is known who answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from yarl import URL

from tentacle.cli.doctor.finding import LIMIT, Finding, Level, fail, ok, warn
from tentacle.cli.doctor.instance import Patient
from tentacle.cli.doctor.reach import Target, reach
from tentacle.cli.doctor.wire import describe
from tentacle.cli.frame.style import span
from tentacle.cli.registration.server_access import ServerRoute, server_versions
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.document import Document
from tentacle.octopus.errors import AccessRefused, OctopusError
from tentacle.octopus.exchange import Reply
from tentacle.octopus.proxies import ProxyUrl
from tentacle.octopus.registration import MachineKind, machines_with, server_thumbprint
from tentacle.octopus.spaces import choose_scope
from tentacle.settings.model import Settings
from tentacle.settings.trust import same_address, same_thumbprint

CLOCK_WARNS = 30.0
CLOCK_FAILS = 300.0
"""Seconds.  Tokens are good for minutes; certificates and logs do not mind less."""
ENOUGH_TIME = 3 * LIMIT
"""Seconds for all that is asked of the server."""


@dataclass(frozen=True)
class Server:
    """Which server to ask and how.  `credentials` of `None`: only what everybody may see."""

    route: ServerRoute
    credentials: Credentials | None
    space: str | None = None
    trace: Callable[[str], None] = field(default=lambda _: None)
    clock: Callable[[], float] = time.time


@dataclass(frozen=True)
class Asked:
    """What was found; `thumbprint` is that of the server's Halibut certificate, when it told us."""

    findings: tuple[Finding, ...]
    thumbprint: str | None = None


async def ask(server: Server, patient: Patient) -> Asked:
    """Everything that can be found out about the server, as far as it goes."""
    try:
        async with asyncio.timeout(ENOUGH_TIME):
            return await _ask(server, patient)
    except TimeoutError:
        found = f"{server.route.address.display} answers too slowly: not everything within {ENOUGH_TIME:g} s"
        return Asked((fail("octopus", found, "Look at the server's load, and at what is in between."),))


async def _ask(server: Server, patient: Patient) -> Asked:
    url = URL(server.route.address.base)
    way = await reach(_target(url, server.route.proxy_in_use))
    findings = list(way.findings)
    if not way.complete:
        return Asked(tuple(findings))
    answered = await _root(server, url)
    if way.certificate is not None:
        # What only shows who answers is no verdict: that comes with the request, from the certificates we trust.
        trusted = not any(one.check == "tls" for one in answered)
        findings += [ok("tls", f"{describe(way.certificate)} answers")] if trusted else []
    findings += answered
    if server.credentials is None or any(one.level is Level.FAIL for one in findings):
        return Asked(tuple(findings))
    return await _signed_in(server, patient, findings, server.credentials)


def _target(url: URL, proxy: ProxyUrl | None) -> Target:
    host, port, secure = url.host or "", url.port or 443, url.scheme == "https"
    if proxy is not None and not secure:
        return Target(proxy.host, proxy.port, tls=False)
    return Target(host, port, proxy, tls=secure)


async def _root(server: Server, url: URL) -> list[Finding]:
    """The root document that everybody may see."""
    try:
        reply = await server.route.root_document(LIMIT, server.trace)
    except OctopusError as error:
        secure = url.scheme == "https"
        check = "tls" if secure and "certificate" in error.message else "http"
        return [fail(check, error.message, error.hint or "Check the address, and the way to it.")]
    return [*_version(reply, server), *_clock(reply, server.clock())]


def _version(reply: Reply, server: Server) -> list[Finding]:
    versions = server_versions(reply)
    if versions is None:
        found = (
            f"{server.route.address.display} answers with HTTP status {reply.status}, and not like an Octopus Server"
        )
        return [fail("octopus", found, "Give --server the address at which the Octopus web portal opens.")]
    return [ok("octopus", f"Octopus Server {versions[0][:60]}, API {versions[1][:20]}")]


def _clock(reply: Reply, now: float) -> list[Finding]:
    try:
        theirs = parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return []
    ahead = now - theirs
    if abs(ahead) < CLOCK_WARNS:
        return [ok("clock", f"agrees with the server's within {max(round(abs(ahead)), 1)} s")]
    word = "ahead of" if ahead > 0 else "behind"
    found = f"this machine's clock is {span(abs(ahead))} {word} the server's"
    level = fail if abs(ahead) >= CLOCK_FAILS else warn
    return [level("clock", found, "Set one of them right: timedatectl set-ntp true")]


async def _signed_in(server: Server, patient: Patient, findings: list[Finding], credentials: Credentials) -> Asked:
    thumbprint = None
    client = server.route.probing_client(credentials, LIMIT, server.trace)
    try:
        async with client:
            scope = await choose_scope(client, server.space)
            where = f", space '{scope.space_name}'" if scope.space_name else ""
            findings.append(ok("signed in", f"by {credentials.kind}{where}"))
            thumbprint = await server_thumbprint(client, scope)
            findings += _trust(thumbprint, patient)
            if patient.settings is not None and patient.settings.certificate is not None:
                own = patient.settings.certificate.thumbprint
                machines = []
                for kind in MachineKind:
                    template = scope.find_link(kind.link)
                    machines += [(kind, one) for one in await machines_with(client, template, own)] if template else []
                findings += _registered(machines, patient, patient.settings, own)
    except AccessRefused as error:
        findings.append(fail("signed in", error.message, error.hint or "Check the key, and what its user may do."))
    except OctopusError as error:
        findings.append(fail("server", error.message, error.hint or "Look at the server's own log."))
    return Asked(tuple(findings), thumbprint)


def _trust(thumbprint: str, patient: Patient) -> list[Finding]:
    """Whether we trust the certificate that the server says it has."""
    if patient.settings is None:
        return []
    servers = patient.settings.servers
    if any(same_thumbprint(one.thumbprint, thumbprint) for one in servers):
        return [ok("trust", f"the server's certificate {thumbprint} is trusted here")]
    if not servers:
        return [warn("trust", f"the server's certificate {thumbprint} is not trusted here yet", _register(patient))]
    others = sorted({one.thumbprint.upper() for one in servers})
    advice = f"tentacle configure{patient.option} --trust={thumbprint}"
    if len(others) == 1:
        advice = f"tentacle update-trust{patient.option} --oldThumbprint={others[0]} --newThumbprint={thumbprint}"
    return [fail("trust", f"the server's certificate is {thumbprint}; trusted here: {', '.join(others)}", advice)]


def _register(patient: Patient) -> str:
    return f"tentacle register-worker{patient.option} --server=... --workerpool=..., or: tentacle init"


def _registered(
    machines: Sequence[tuple[MachineKind, Document]], patient: Patient, settings: Settings, own: str
) -> list[Finding]:
    """What the server knows under our thumbprint."""
    if not machines:
        level = fail if settings.servers else warn
        return [level("registered", f"the server knows no machine with our thumbprint {own}", _register(patient))]
    findings = [_one(kind, machine, settings, patient.option) for kind, machine in machines]
    if len(machines) > 1:
        found = f"{len(machines)} machines on the server have our thumbprint"
        new = f"tentacle new-certificate{patient.option}"
        advice = f"If they are clones, give each its own: {new}.  If left over, delete them there."
        findings.append(warn("clone", found, advice))
    return findings


def _one(kind: MachineKind, machine: Document, settings: Settings, option: str) -> Finding:
    name = f"{kind.value} '{machine.text('Name')}' ({machine.text('Id')})"
    endpoint = machine.object("Endpoint")
    uri = endpoint.text("Uri") or ""
    health = machine.text("HealthStatus") or "health unknown"
    if endpoint.text("CommunicationStyle") == "TentacleActive":
        ours = [s.subscription_id for s in settings.servers if s.subscription_id]
        if not any(same_address(uri, one) for one in ours):
            told = ", ".join(ours) or "none"
            advice = "Register again with --force; or is it a clone's, or another instance's?"
            return fail("registered", f"{name} waits for {uri}, and the subscriptions here are: {told}", advice)
    elif settings.no_listen:
        advice = (
            f"tentacle configure{option} --noListen=False, or register again with --comms-style=TentacleActive --force"
        )
        return fail("registered", f"the server calls {name} at {uri}, but this Tentacle does not listen", advice)
    if machine.flag("IsDisabled"):
        return warn("registered", f"{name} is disabled on the server", "Enable it in the portal.")
    if health.lower() in {"unavailable", "unhealthy"}:
        advice = "Run a health check in the portal; its log says what the server meets on its way here."
        return warn("registered", f"{name} at {uri}: {health}", advice)
    return ok("registered", f"{name} at {uri}: {health}")
