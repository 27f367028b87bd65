"""The ports of servers that this Tentacle polls: the way there, and whether the right certificate answers.

Knows trust by thumbprint.  Must not know the REST interface.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tentacle.agent.plan import PollPlan, make_plan
from tentacle.cli.doctor.finding import LIMIT, Finding, Level, ReportSection, fail, ok, section, warn
from tentacle.cli.doctor.reach import ProbeTarget, reach
from tentacle.cli.frame.certificate_text import UNREADABLE, CertificateSummary
from tentacle.errors import TentacleError
from tentacle.octopus.connectivity import ConnectivityCheck
from tentacle.octopus.errors import ConnectionFailed
from tentacle.octopus.proxies import ProxyUrl
from tentacle.records import dataclass
from tentacle.settings.model import Settings
from tentacle.settings.trust import same_thumbprint
from tentacle.transport.address import Address
from tentacle.transport.proxy_logins import ProxyLogins
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import CIPHERS, LEGACY_CIPHERS
from tentacle.transport.vouched_tls import dial_vouched

INSPECTED = "Have this address exempted from TLS inspection: Halibut trusts certificates by thumbprint only."

COMPARE = (
    "Compare it with Configuration > Thumbprint in the portal.  If it is the same there, the server has a new "
    "certificate: see tentacle update-trust --help.  If not, something in between answers in the server's place: have "
    "this address exempted from TLS inspection."
)
"""No command that would trust it: only the server itself can say that this is its certificate."""


@dataclass(frozen=True)
class PollingPort:
    """A server's communications port that is polled, or could be.

    `expected` is the thumbprint that has to answer, `None` when nobody knows it; `source` says where it comes from.
    What is wrong with a port that is not `needed` is a warning.  At `vouched`, certificates of a file count instead.
    `web_socket` and `https` are paths there, as in `Address`.
    """

    target: ProbeTarget
    expected: str | None
    needed: bool = True
    source: str = "as trusted"
    vouched: Address | None = None
    web_socket: str | None = None
    https: str | None = None


def polling_port(poll: PollPlan, settings: Settings) -> PollingPort:
    """The port that an agent with these settings dials."""
    proxy = poll.address.proxy
    through = ProxyUrl(proxy.host.strip("[]"), proxy.port, proxy.username, proxy.password) if proxy else None
    target = polling_target(poll.address.host, poll.address.port, through, settings)
    at = poll.address
    vouched = at if at.ca_file else None
    return PollingPort(target, at.thumbprint, vouched=vouched, web_socket=at.web_socket, https=at.https)


def polling_target(host: str, port: int, proxy: ProxyUrl | None, settings: Settings) -> ProbeTarget:
    """Where polling goes, with the ciphers that it may use."""
    return ProbeTarget(host, port, proxy, ciphers=LEGACY_CIPHERS if settings.legacy_ciphers else CIPHERS)


def planned_polls(settings: Settings, environ: Mapping[str, str]) -> tuple[list[PollPlan], Finding | None]:
    """The servers that an agent would poll, or why it could not."""
    try:
        return list(make_plan(settings, environ).polls), None
    except TentacleError as error:
        return [], fail("polling", error.message, error.hint or "tentacle show-configuration; tentacle poll-server")


async def polling_section(port: PollingPort, logins: ProxyLogins | None = None) -> ReportSection:
    """The findings about one port, as a section."""
    return await section(f"Polling port {port.target}", [lambda: polling_findings(port, logins)])


async def polling_findings(port: PollingPort, logins: ProxyLogins | None = None) -> Sequence[Finding]:
    """The steps on the way, then whether the right certificate answers."""
    reached = await reach(port.target, logins)
    found = list(reached.findings)
    if reached.certificate is not None and port.vouched is not None:
        found.append(await _vouched_finding(reached.certificate, port.vouched))
    elif reached.certificate is not None:
        found.append(_certificate_finding(reached.certificate, port))
    if reached.complete and (port.web_socket is not None or port.https is not None):
        found.append(await _answer_finding(port))
    if port.needed:
        return found
    advice = "This matters only if this machine is to poll the server."
    return [warn(one.check, one.found, advice) if one.level is Level.FAIL else one for one in found]


async def _answer_finding(port: PollingPort) -> Finding:
    """Whether what is polled is there: a web server that shows the right certificate may know nothing of it."""
    what, path = ("web socket", port.web_socket) if port.https is None else ("https", f"{port.https}/agents")
    target = port.target
    ways = {"web_socket": port.web_socket, "https": port.https}
    try:
        await ConnectivityCheck(delays=(), timeout=LIMIT).run(target.host, target.port, proxy=target.proxy, **ways)
    except ConnectionFailed as error:
        advice = (
            error.hint if port.https is None else "Check the address, and that the server is polled by HTTPS there."
        )
        return fail(what, error.message, advice or "")
    return ok(what, f"{path} at {target} answers as a server that is polled there")


async def _vouched_finding(certificate: CertificateSummary, address: Address) -> Finding:
    assert address.ca_file is not None, "else the thumbprint counts"
    try:
        (await dial_vouched(address, address.ca_file, Timeouts())).abort()
    except TentacleError as error:
        return fail("tls", f"{describe(certificate)} answers; {error.message}", error.hint or "")
    return ok("tls", f"{describe(certificate)} answers, and {address.ca_file} vouches for it")


def _certificate_finding(certificate: CertificateSummary, port: PollingPort) -> Finding:
    answers = f"{describe(certificate)} answers"
    if port.expected is None:
        if certificate.self_signed or port.web_socket is not None or port.https is not None:
            return ok("tls", answers)
        return warn("tls", f"{answers}, which is not like an Octopus Server's own certificate", INSPECTED)
    if same_thumbprint(certificate.thumbprint, port.expected):
        return ok("tls", f"{answers}, {port.source}")
    found = f"{answers}, and not {port.expected} {port.source}"
    if not certificate.self_signed:
        return fail("tls", f"{found}: something in between inspects TLS", INSPECTED)
    return fail("tls", found, COMPARE)


def describe(certificate: CertificateSummary) -> str:
    """Whose certificate it is, who issued it, and its thumbprint."""
    if certificate.subject == UNREADABLE:
        return f"{UNREADABLE} ({certificate.thumbprint})"
    issuer = "signed by itself" if certificate.self_signed else f"issued by {certificate.issuer}"
    return f"{certificate.subject} ({issuer}, {certificate.thumbprint})"
