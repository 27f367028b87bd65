"""The way to a port, step by step (name, TCP, proxy, TLS): what each step finds, and which certificate answers.

Knows sockets, CONNECT and TLS without trust.  Must not know which certificate should answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import field

from tentacle.cli.doctor.finding import LIMIT, Finding, fail, in_daemon_thread, ok
from tentacle.cli.frame.certificate_text import CertificateSummary, summary_of_der
from tentacle.errors import one_line
from tentacle.octopus.certificates import AcceptingContext
from tentacle.octopus.proxies import ProxyUrl
from tentacle.records import dataclass
from tentacle.transport.errors import ProxyLoginRefused
from tentacle.transport.proxy_logins import ProxyLogins
from tentacle.transport.tls import LEGACY_HINT, is_no_common_cipher
from tentacle.wire.connect import FINAL_REFUSALS, AnswerParser, authority, connect_request, sign_in_advice
from tentacle.wire.errors import ProtocolError

ANY_CIPHERS = "DEFAULT:@SECLEVEL=1"
"""As lenient as can be: old servers have keys of 1024 bits."""
_SHOWN = 3
"""How many addresses of one name are shown and tried."""


class Stopped(Exception):
    """A step failed; `finding` says why.  The steps after it are not tried."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.found)
        self.finding = finding


@dataclass(frozen=True)
class ProbeTarget:
    """Where to go, `host` without brackets, and which ciphers TLS 1.2 may use there, as OpenSSL writes them."""

    host: str
    port: int
    proxy: ProxyUrl | None = None
    tls: bool = True
    ciphers: str = ANY_CIPHERS
    limit: float = LIMIT

    def __str__(self) -> str:
        return authority(self.host, self.port)


@dataclass(frozen=True)
class Reached:
    """The findings of all steps, whether all succeeded, and the certificate that was shown."""

    findings: tuple[Finding, ...]
    complete: bool
    certificate: CertificateSummary | None = field(default=None)


async def reach(target: ProbeTarget, logins: ProxyLogins | None = None) -> Reached:
    """Takes one step after the other until one fails; `logins` says whether the proxy may be shown a login."""
    findings: list[Finding] = []
    hop, port = (target.proxy.host, target.proxy.port) if target.proxy else (target.host, target.port)
    certificate = None
    try:
        addresses = await _resolve(hop, port, target, findings)
        reader, writer = await _connect(addresses, port, target, findings)
        try:
            if target.proxy is not None:
                async with (logins or ProxyLogins()).turn(target.proxy) if target.proxy.username else nullcontext():
                    await _tunnel(reader, writer, target, target.proxy, findings)
            if target.tls:
                certificate = await _handshake(writer, target)
        finally:
            writer.transport.abort()
    except Stopped as stopped:
        return Reached((*findings, stopped.finding), False)
    except ProxyLoginRefused as refused:
        return Reached((*findings, fail("proxy", refused.message, refused.hint or "")), False)
    return Reached(tuple(findings), True, certificate)


async def _resolve(host: str, port: int, target: ProbeTarget, findings: list[Finding]) -> list[str]:
    what = "proxy name" if target.proxy else "name"
    try:
        found = await in_daemon_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), target.limit)
    except TimeoutError:
        found_text = f"{host}: no answer from this machine's DNS within {target.limit:g} s"
        raise Stopped(fail(what, found_text, "Check the name servers in /etc/resolv.conf.")) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        advice = f"Check the spelling, and this machine's DNS: getent hosts {host}"
        raise Stopped(fail(what, f"{host} cannot be resolved: {reason}", advice)) from None
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    if addresses != [host]:
        more = f" and {len(addresses) - _SHOWN} more" if len(addresses) > _SHOWN else ""
        findings.append(ok(what, f"{host} is {', '.join(addresses[:_SHOWN])}{more}"))
    return addresses[:_SHOWN]


async def _connect(
    addresses: Sequence[str], port: int, target: ProbeTarget, findings: list[Finding]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    what = "proxy tcp" if target.proxy else "tcp"
    refused = []
    for address in addresses:
        began = time.monotonic()
        try:
            async with asyncio.timeout(target.limit / len(addresses)):
                streams = await asyncio.open_connection(address, port)
        except TimeoutError:
            refused.append(f"{authority(address, port)}: no answer")
        except OSError as error:
            refused.append(f"{authority(address, port)}: {reason_of(error)}")
        else:
            took = (time.monotonic() - began) * 1000
            findings.append(ok(what, f"{authority(address, port)} accepts connections ({took:.0f} ms)"))
            return streams
    advice = f"A firewall between here and there may swallow it: allow TCP port {port} outwards."
    if any("unreachable" in one for one in refused):
        advice = "This machine has no way there: look at its addresses and routes (ip address; ip route)."
    if any("refused" in one for one in refused):
        advice = f"Nothing listens there: check the address, the port {port}, and that the program runs."
    raise Stopped(fail(what, "; ".join(refused), advice))


async def _tunnel(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    target: ProbeTarget,
    proxy: ProxyUrl,
    findings: list[Finding],
) -> None:
    where = authority(proxy.host, proxy.port)
    parser = AnswerParser()
    try:
        async with asyncio.timeout(target.limit):
            writer.write(connect_request(target.host, target.port, proxy.authorization))
            while (answer := parser.feed(await reader.read(4096))) is None:
                pass
    except TimeoutError:
        raise Stopped(fail("proxy", f"{where}: no answer to CONNECT {target}", "Is it an HTTP proxy?")) from None
    except (OSError, ValueError, ProtocolError):
        advice = "Is it an HTTP proxy, and may this machine use it?"
        raise Stopped(fail("proxy", f"{where}: closed the connection at CONNECT {target}", advice)) from None
    if answer.status == 407:
        advice = (
            sign_in_advice(answer.offers)
            or "Set its user and password: tentacle polling-proxy (or tentacle proxy) --proxyUsername --proxyPassword"
        )
        raise ProxyLoginRefused(f"{where} wants other credentials (407)", hint=advice)
    if not answer.connected:
        if answer.status is None:
            said, advice = "something that is not HTTP", "Is it an HTTP proxy, and may this machine use it?"
        elif answer.status in FINAL_REFUSALS:
            said, advice = f"HTTP status {answer.status}", f"Have the proxy's administrator allow CONNECT to {target}."
        else:
            said = f"HTTP status {answer.status}"
            advice = f"Check that {target} is the right address, and that the proxy's machine can reach it."
        raise Stopped(fail("proxy", f"{where} refuses CONNECT to {target}: {said}", advice))
    findings.append(ok("proxy", f"{where} connects to {target}"))


async def _handshake(writer: asyncio.StreamWriter, target: ProbeTarget) -> CertificateSummary:
    context = AcceptingContext()
    context.set_ciphers(target.ciphers)
    try:
        async with asyncio.timeout(target.limit):
            await writer.start_tls(context, server_hostname=target.host)
        der = context.presented()
        if der is None:
            raise ValueError("it showed no certificate")
        return summary_of_der(der)
    except TimeoutError:
        found = f"{target}: TCP works, but nothing answers the TLS handshake within {target.limit:g} s"
        advice = "Something in between may hold TLS back: a firewall that inspects, or an MTU that is too large."
        raise Stopped(fail("tls", found, advice)) from None
    except ssl.SSLError as error:
        said = (error.reason or one_line(error)).lower().replace("_", " ")
        advice = "Is this the right port?  It does not speak the TLS that an Octopus Server speaks."
        if is_no_common_cipher(said):
            said, advice = f"no cipher in common: {said}", f"{LEGACY_HINT[0].upper()}{LEGACY_HINT[1:]}"
        raise Stopped(fail("tls", f"{target}: no TLS connection ({said})", advice)) from None
    except (OSError, EOFError, ValueError) as error:
        advice = "Something in between cuts the connection, or this is not an Octopus Server's port."
        raise Stopped(fail("tls", f"{target}: cut during the TLS handshake ({reason_of(error)})", advice)) from None


def reason_of(error: BaseException) -> str:
    """Why a network operation failed, in the system's own words."""
    number = getattr(error, "errno", None)
    return (os.strerror(number) if number else one_line(error)).rstrip(".").lower()
