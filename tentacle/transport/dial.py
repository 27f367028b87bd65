"""Makes a connection: TCP, through an HTTP proxy if there is one, then TLS to exactly the expected certificate."""

from __future__ import annotations

import os
import re
import socket
from contextlib import AsyncExitStack, nullcontext

from tentacle.masking import Mask, worth_masking
from tentacle.transport.address import Address, Proxy, proxy_name
from tentacle.transport.errors import ConnectFailed, NameUnknown, ProxyLoginRefused, TunnelRefused
from tentacle.transport.proxy_logins import ProxyLogins
from tentacle.transport.stream import TcpStream, connect_tcp, limit
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity, TlsStream
from tentacle.wire.connect import (
    FINAL_REFUSALS,
    AnswerParser,
    HttpAnswer,
    ascii_host,
    authority,
    basic_authorization,
    connect_request,
    sign_in_advice,
)
from tentacle.wire.errors import ProtocolError


async def dial(
    address: Address, identity: TlsIdentity, timeouts: Timeouts, logins: ProxyLogins | None = None
) -> TlsStream:
    """Returns a connection to the peer at `address`; `logins` says when a proxy may be shown credentials.

    Raises `ConnectFailed` (also as `TunnelRefused`, `TlsFailed`), `UnexpectedCertificate` or `TimedOut`.
    """
    async with AsyncExitStack() as undo:
        tcp = await reach(address, timeouts, logins)
        undo.callback(tcp.abort)
        host = _ascii_name(address.host).removesuffix(".")
        async with limit(timeouts.receive, f"the TLS handshake with {address}"):
            stream = await TlsStream.connect(tcp, identity.context(), host, address.thumbprint)
        undo.pop_all()
    return stream


async def reach(address: Address, timeouts: Timeouts, logins: ProxyLogins | None = None) -> TcpStream:
    """A connection to `address` without TLS, through its proxy if it has one.  Raises as `dial` does."""
    host = _ascii_name(address.host)
    async with AsyncExitStack() as undo:
        turn = logins.turn(address.proxy) if logins and address.proxy and address.proxy.username else nullcontext()
        async with turn:
            async with limit(timeouts.connect, f"a connection to {address}"):
                tcp = await _connect(address, timeouts)
            undo.callback(tcp.abort)
            if address.proxy is not None:
                async with limit(timeouts.proxy_answer, f"the answer of the proxy {proxy_name(address.proxy)}"):
                    await _tunnel(tcp, host, address.port, address.proxy)
        undo.pop_all()
    return tcp


def _ascii_name(host: str) -> str:
    try:
        return ascii_host(host)
    except ValueError:
        raise NameUnknown(
            f"{host[:200]!r} is not a host name",
            hint="correct it, for a server with: Tentacle server-comms --thumbprint=... --style=TentacleActive --host=",
        ) from None


async def _connect(address: Address, timeouts: Timeouts) -> TcpStream:
    target = address.proxy or address
    try:
        return await connect_tcp(_ascii_name(target.host), target.port, timeouts)
    except socket.gaierror as error:
        raise NameUnknown(
            f"the name {target.host!r} cannot be resolved: {error.strerror}",
            hint="check the name and this machine's DNS (for example with: getent hosts NAME)",
        ) from error
    except OSError as error:
        what = "proxy at " if address.proxy else ""
        raise ConnectFailed(
            f"cannot connect to {what}{authority(target.host, target.port)}: {_reason(error)}",
            hint="check address, port and firewalls between here and there",
        ) from error


def _reason(error: OSError) -> str:
    """The system's words for a failure to connect.

    asyncio has words of its own for it, and puts several failures, one per address of a name, into one text.
    """
    numbers = [error.errno] if error.errno else [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]
    return " / ".join(dict.fromkeys(os.strerror(number) for number in numbers)) or "no address could be reached"


async def _tunnel(tcp: TcpStream, host: str, port: int, proxy: Proxy) -> None:
    authorization = basic_authorization(proxy.username, proxy.password)
    await tcp.send(connect_request(host, port, authorization, version="1.0"))
    parser = AnswerParser()
    try:
        while (answer := parser.feed(await tcp.receive())) is None:
            pass
    except ProtocolError as error:
        raise TunnelRefused(f"the proxy {proxy_name(proxy)} closed the connection or made no sense") from error
    if not answer.connected:
        # Masked before it is cut: a log does not know a half of a secret again.
        secrets = worth_masking((proxy.password, authorization and authorization.removeprefix("Basic ")))
        status_line = Mask.of_secrets(secrets).cover(answer.status_line)
        shown = "".join(c if c.isprintable() else "?" for c in status_line[:100])
        kind = ProxyLoginRefused if answer.status == 407 else TunnelRefused
        raise kind(
            f"the proxy {proxy_name(proxy)} refused a connection to {authority(host, port)}: {shown}",
            hint=_refusal_hint(answer),
        )


def _refusal_hint(answer: HttpAnswer) -> str:
    """What to do about a proxy that refuses."""
    if answer.status == 407:
        return sign_in_advice(answer.offers) or "correct its user name and password with: Tentacle polling-proxy"
    if answer.status in FINAL_REFUSALS:
        return "whoever runs the proxy has to allow CONNECT to that host and port"
    if answer.status is not None and answer.status >= 400:
        return "check the server's address, and that the proxy's machine can reach it"
    return "check that this is the address of an HTTP proxy"
