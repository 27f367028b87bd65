"""The Octopus Server's REST interface: who answers, whether clocks agree, and what it knows of this machine.

Knows the root document, `certificate-global` and machines by thumbprint (docs/spec/rest.md,
"Requests of a registration" and "What a server knows of this machine").  Signs in only when it was given credentials,
and only once it is known who answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import field
from email.utils import parsedate_to_datetime

from yarl import URL

from tentacle.cli.doctor.examined import ExaminedInstance
from tentacle.cli.doctor.finding import LIMIT, Finding, Level, fail, ok, warn
from tentacle.cli.doctor.polling import describe
from tentacle.cli.doctor.reach import ProbeTarget, reach
from tentacle.cli.frame.style import span
from tentacle.cli.registration.server_access import ServerRoute, server_versions
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.errors import AccessRefused, OctopusError
from tentacle.octopus.http_client import HttpResponse
from tentacle.octopus.json_document import JsonDocument
from tentacle.octopus.proxies import ProxyUrl
from tentacle.octopus.registration import MachineKind, machines_with, server_thumbprint
from tentacle.octopus.responses import failure
from tentacle.octopus.spaces import choose_scope
from tentacle.records import dataclass
from tentacle.settings.model import Settings
from tentacle.settings.trust import same_address, same_thumbprint
from tentacle.transport.errors import ProxyLoginRefused
from tentacle.transport.proxy_logins import ProxyLogins

CLOCK_WARNS = 30.0
CLOCK_FAILS = 300.0
"""Seconds of difference.  Tokens are valid for minutes only; certificates and logs are not that strict."""
ENOUGH_TIME = 3 * LIMIT
"""Seconds for all that is asked of the server."""


@dataclass(frozen=True)
class ExaminedServer:
    """Which server to ask and how.  `credentials` of `None`: only what everybody may see."""

    route: ServerRoute
    credentials: Credentials | None
    space: str | None = None
    trace: Callable[[str], None] = field(default=lambda _: None)
    clock: Callable[[], float] = time.time
    logins: ProxyLogins = field(default_factory=ProxyLogins)


@dataclass(frozen=True)
class ServerFindings:
    """What was found out; `thumbprint` is that of the server's Halibut certificate, when it is known."""

    findings: tuple[Finding, ...]
    thumbprint: str | None = None


async def ask(server: ExaminedServer, instance: ExaminedInstance) -> ServerFindings:
    """Finds out about the server as much as is possible in `ENOUGH_TIME`."""
    try:
        async with asyncio.timeout(ENOUGH_TIME):
            return await _ask(server, instance)
    except TimeoutError:
        found = f"{server.route.address.display} answers too slowly: not everything within {ENOUGH_TIME:g} s"
        return ServerFindings((fail("octopus", found, "Look at the server's load, and at what is in between."),))


async def _ask(server: ExaminedServer, instance: ExaminedInstance) -> ServerFindings:
    url = URL(server.route.address.base)
    way = await reach(_target(url, server.route.proxy_in_use), server.logins)
    findings = list(way.findings)
    if not way.complete:
        return ServerFindings(tuple(findings))
    answered = await _root(server, url)
    if way.certificate is not None:
        # `reach` does not judge the certificate; the request after it does.
        trusted = not any(one.check == "tls" for one in answered)
        findings += [ok("tls", f"{describe(way.certificate)} answers")] if trusted else []
    findings += answered
    if server.credentials is None or any(one.level is Level.FAIL for one in findings):
        return ServerFindings(tuple(findings))
    return await _signed_in(server, instance, findings, server.credentials)


def _target(url: URL, proxy: ProxyUrl | None) -> ProbeTarget:
    host, port, secure = url.host or "", url.port or 443, url.scheme == "https"
    if proxy is not None and not secure:
        return ProbeTarget(proxy.host, proxy.port, tls=False)
    return ProbeTarget(host, port, proxy, tls=secure)


async def _root(server: ExaminedServer, url: URL) -> list[Finding]:
    """The root document that everybody may see."""
    try:
        reply = await _asked_once(server, url)
    except ProxyLoginRefused as error:
        return [fail("proxy", error.message, error.hint or "")]
    except OctopusError as error:
        secure = url.scheme == "https"
        check = "tls" if secure and "certificate" in error.message else "http"
        return [fail(check, error.message, error.hint or "Check the address, and the way to it.")]
    return [*_version(reply, server), *clock_findings(reply, server.clock())]


async def _asked_once(server: ExaminedServer, url: URL) -> HttpResponse:
    """For plain HTTP there is no CONNECT before it, so that this shows the proxy our login.

    Raises `ProxyLoginRefused` and `OctopusError`.
    """
    proxy = server.route.proxy_in_use
    if proxy is None or not proxy.username or url.scheme == "https":
        return await server.route.root_document(LIMIT, server.trace)
    async with server.logins.turn(proxy):
        reply = await server.route.root_document(LIMIT, server.trace)
        if reply.status == 407:
            refused = failure(reply, str)
            raise ProxyLoginRefused(refused.message, hint=refused.hint)
    return reply


def _version(reply: HttpResponse, server: ExaminedServer) -> list[Finding]:
    versions = server_versions(reply)
    if versions is None:
        found = (
            f"{server.route.address.display} answers with HTTP status {reply.status}, and not like an Octopus Server"
        )
        return [fail("octopus", found, "Give --server the address at which the Octopus web portal opens.")]
    return [ok("octopus", f"Octopus Server {versions[0][:60]}, API {versions[1][:20]}")]


def clock_findings(reply: HttpResponse, now: float) -> list[Finding]:
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


async def _signed_in(
    server: ExaminedServer, instance: ExaminedInstance, findings: list[Finding], credentials: Credentials
) -> ServerFindings:
    thumbprint = None
    client = server.route.probing_client(credentials, LIMIT, server.trace)
    try:
        async with client:
            scope = await choose_scope(client, server.space)
            where = f", space '{scope.space_name}'" if scope.space_name else ""
            findings.append(ok("signed in", f"by {credentials.kind}{where}"))
            thumbprint = await server_thumbprint(client, scope)
            findings += _trust_findings(thumbprint, instance, certain=_is_certain(server.route))
            if instance.settings is not None and instance.settings.certificate is not None:
                own = instance.settings.certificate.thumbprint
                machines = []
                for kind in MachineKind:
                    template = scope.find_link(kind.link)
                    machines += [(kind, one) for one in await machines_with(client, template, own)] if template else []
                findings += _machine_findings(machines, instance, instance.settings, own)
    except AccessRefused as error:
        findings.append(fail("signed in", error.message, error.hint or "Check the key, and what its user may do."))
    except OctopusError as error:
        findings.append(fail("server", error.message, error.hint or "Look at the server's own log."))
    return ServerFindings(tuple(findings), thumbprint)


def _is_certain(route: ServerRoute) -> bool:
    """Whether nobody in between can have answered in the server's place."""
    url = URL(route.address.base)
    return (url.scheme == "https" and not route.ignore_ssl_errors) or url.host in ("localhost", "127.0.0.1", "::1")


def _trust_findings(thumbprint: str, instance: ExaminedInstance, *, certain: bool) -> list[Finding]:
    """Whether this instance trusts the certificate that the server says it has.

    Where it is not `certain` that the server has said it, no command is told that would trust it.
    """
    if instance.settings is None:
        return []
    servers = instance.settings.servers
    if any(same_thumbprint(one.thumbprint, thumbprint) for one in servers):
        return [ok("trust", f"the server's certificate {thumbprint} is trusted here")]
    if not servers:
        return [warn("trust", f"the server's certificate {thumbprint} is not trusted here yet", _register(instance))]
    others = sorted({one.thumbprint.upper() for one in servers})
    advice = f"tentacle configure{instance.option} --trust={thumbprint}"
    if len(others) == 1:
        advice = f"tentacle update-trust{instance.option} --oldThumbprint={others[0]} --newThumbprint={thumbprint}"
    if not certain:
        advice = "Compare both with Configuration > Thumbprint in the portal: what was asked here was not protected."
    return [fail("trust", f"the server's certificate is {thumbprint}; trusted here: {', '.join(others)}", advice)]


def _register(instance: ExaminedInstance) -> str:
    return f"tentacle register-worker{instance.option} --server=... --workerpool=..., or: tentacle init"


def _machine_findings(
    machines: Sequence[tuple[MachineKind, JsonDocument]], instance: ExaminedInstance, settings: Settings, own: str
) -> list[Finding]:
    """The machines that the server knows under our thumbprint."""
    if not machines:
        level = fail if settings.servers else warn
        return [level("registered", f"the server knows no machine with our thumbprint {own}", _register(instance))]
    findings = [_machine_finding(kind, machine, settings, instance.option) for kind, machine in machines]
    if len(machines) > 1:
        found = f"{len(machines)} machines on the server have our thumbprint"
        new = f"tentacle new-certificate{instance.option}"
        advice = f"If they are clones, give each its own: {new}.  If left over, delete them there."
        findings.append(warn("clone", found, advice))
    return findings


def _machine_finding(kind: MachineKind, machine: JsonDocument, settings: Settings, option: str) -> Finding:
    name = f"{kind.value} '{machine.text('Name')}' ({machine.text('Id')})"
    endpoint = machine.object("Endpoint")
    uri = endpoint.text("Uri") or ""
    health = machine.text("HealthStatus") or "health unknown"
    if endpoint.text("CommunicationStyle") == "TentacleActive":
        ours = [s.subscription_id for s in settings.servers if s.subscription_id]
        if not any(same_address(uri, one) for one in ours):
            subscriptions = ", ".join(ours) or "none"
            advice = "Register again with --force; or is it a clone's, or another instance's?"
            return fail(
                "registered", f"{name} waits for {uri}, and the subscriptions here are: {subscriptions}", advice
            )
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
