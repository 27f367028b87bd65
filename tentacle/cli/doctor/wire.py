"""The wire between this Tentacle and its servers: the port we listen on, the ports we poll, and who answers there.

Knows trust by thumbprint.  Must not know the REST interface.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tentacle.agent.plan import PollPlan, make_plan
from tentacle.cli.doctor.finding import Finding, Level, Probe, Section, aside, fail, ok, section, warn
from tentacle.cli.doctor.instance import Patient
from tentacle.cli.doctor.ports import port_owner
from tentacle.cli.doctor.reach import Reached, Target, reach
from tentacle.cli.frame.certificate_text import CertificateFacts
from tentacle.cli.status.state import agent_of
from tentacle.errors import TentacleError
from tentacle.octopus.proxies import ProxyUrl
from tentacle.settings.model import Settings
from tentacle.transport.listener import bind
from tentacle.wire.connect import authority

PRIVILEGED = 1024


@dataclass(frozen=True)
class Comms:
    """A server's communications port that is, or may once be, polled.

    `expected` is the thumbprint that has to answer, `None` when nobody knows it; `source` says who wants it.
    """

    target: Target
    expected: str | None
    needed: bool = True
    source: str = "as trusted"


def comms_of(poll: PollPlan) -> Comms:
    """What a polling agent dials."""
    proxy = poll.address.proxy
    through = ProxyUrl(proxy.host.strip("[]"), proxy.port, proxy.username, proxy.password) if proxy else None
    return Comms(Target(poll.address.host, poll.address.port, through), poll.address.thumbprint)


def polls_of(settings: Settings, environ: Mapping[str, str]) -> tuple[list[PollPlan], Finding | None]:
    """The servers that an agent would poll, or why it could not."""
    try:
        return list(make_plan(settings, environ).polls), None
    except TentacleError as error:
        return [], fail("polling", error.message, error.hint or "tentacle show-configuration; tentacle poll-server")


async def comms_section(comms: Comms) -> Section:
    """The way to one server's communications port, and whether the right one answers."""
    return await section(f"Polling port {comms.target}", [lambda: comms_findings(comms)])


async def comms_findings(comms: Comms) -> Sequence[Finding]:
    """Steps on the way, then the verdict on the certificate.  What is not needed only warns."""
    reached = await reach(comms.target)
    found = [*reached.findings, *_verdict(reached, comms)]
    if comms.needed:
        return found
    advice = "This matters only if this machine is to poll the server."
    return [warn(one.check, one.found, advice) if one.level is Level.FAIL else one for one in found]


def _verdict(reached: Reached, comms: Comms) -> list[Finding]:
    certificate = reached.certificate
    if certificate is None:
        return []
    who = describe(certificate)
    if comms.expected is None:
        if certificate.self_signed:
            return [ok("tls", f"{who} answers")]
        return [warn("tls", f"{who} answers, which is not like an Octopus Server's own certificate", INSPECTED)]
    if certificate.thumbprint == comms.expected.upper():
        return [ok("tls", f"{who} answers, {comms.source}")]
    found = f"{who} answers, and not {comms.expected} {comms.source}"
    if certificate.self_signed:
        advice = (
            "Compare it with Configuration > Thumbprint in the portal.  If the server has a new certificate: tentacle "
            f"update-trust --oldThumbprint={comms.expected} --newThumbprint={certificate.thumbprint}"
        )
        return [fail("tls", found, advice)]
    return [fail("tls", f"{found}: something in between inspects TLS", INSPECTED)]


INSPECTED = "Have this address exempted from TLS inspection: Halibut trusts certificates by thumbprint only."


def describe(certificate: CertificateFacts) -> str:
    """Who a certificate says it is."""
    issuer = "signed by itself" if certificate.self_signed else f"issued by {certificate.issuer}"
    return f"{certificate.subject} ({issuer}, {certificate.thumbprint})"


def listening_probes(patient: Patient, settings: Settings) -> list[Probe]:
    """The port that servers call."""
    return [] if settings.no_listen else [lambda: listening(patient, settings)]


async def listening(patient: Patient, settings: Settings) -> Sequence[Finding]:
    """Our own certificate answers when the agent runs; the port is free when it does not."""
    state = agent_of(patient.home, patient.now) if patient.home else None
    live = state.live if state else None
    if state is not None and state.running:
        port = _port_of(live.listening) if live and live.listening else settings.port
        host = settings.listen_ip or "127.0.0.1"
        if not port:
            found = "the agent runs, but has not said on which port it listens"
            return [warn("listening", found, "Look at its log: has it just started?")]
        return await _answering(Target(host, port), settings)
    return [await aside(lambda: _free(settings, patient.option))]


def _port_of(address: str) -> int:
    port = address.rpartition(":")[2]
    return int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0


async def _answering(target: Target, settings: Settings) -> Sequence[Finding]:
    reached = await reach(target)
    own = settings.certificate.thumbprint if settings.certificate else ""
    if reached.certificate is None:
        return reached.findings[-1:]
    if reached.certificate.thumbprint == own:
        return [ok("listening", f"{target} answers with this Tentacle's certificate")]
    found = f"{target} is answered by {describe(reached.certificate)}, not by this Tentacle"
    return [fail("listening", found, "Is it another instance, or was the certificate changed?  Restart the agent.")]


def _free(settings: Settings, option: str) -> Finding:
    port, other = settings.port, f"tentacle configure{option} --port=PORT"
    where = authority(settings.listen_ip, port) if settings.listen_ip else f"port {port}"
    if port == 0:
        return warn("listening", "the port is 0: the system chooses one", other)
    try:
        bind(settings.listen_ip, port).close()
    except TentacleError as error:
        owner = port_owner(port)
        if owner:
            return fail(
                "listening", f"{where} is taken by {owner}", f"Stop that, or: tentacle configure{option} --port=..."
            )
        advice = other
        if port < PRIVILEGED and os.geteuid() != 0:
            advice = f"Ports below {PRIVILEGED} need root or CAP_NET_BIND_SERVICE; {advice}"
        return fail("listening", error.message, advice)
    except (OSError, OverflowError) as error:
        return fail("listening", f"{where} cannot be used: {error}", other)
    return ok("listening", f"{where} is free for the agent, which is not running")
