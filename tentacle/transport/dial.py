"""Making a connection: TCP, through an HTTP proxy if there is one, then TLS to exactly the expected certificate."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from tentacle.transport.errors import ConnectFailed, NameUnknown, ProxyRefused
from tentacle.transport.stream import RECEIVE_SIZE, TcpStream, format_address, limit
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity, TlsStream
from tentacle.wire.proxy_answer import other_sign_in


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy that is asked with CONNECT (halibut.md 7)."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Address:
    """Whom to dial, and which certificate has to answer."""

    host: str
    port: int
    thumbprint: str
    proxy: Proxy | None = None

    def __str__(self) -> str:
        return format_address((self.host, self.port))


async def dial(address: Address, identity: TlsIdentity, timeouts: Timeouts) -> TlsStream:
    """A connection to the peer that `address` names.

    Raises `ConnectFailed` (also as `ProxyRefused`, `TlsFailed`), `UnexpectedCertificate` or `TimedOut`.
    """
    host = _ascii_name(address.host)
    async with AsyncExitStack() as undo:
        async with limit(timeouts.connect, f"a connection to {address}"):
            tcp = await _connect(address, timeouts)
        undo.callback(tcp.abort)
        if address.proxy is not None:
            async with limit(timeouts.proxy_answer, f"the answer of the proxy {proxy_name(address.proxy)}"):
                await _tunnel(tcp, format_address((host, address.port)), address.proxy)
        async with limit(timeouts.receive, f"the TLS handshake with {address}"):
            stream = await TlsStream.connect(tcp, identity.context(), host.removesuffix("."), address.thumbprint)
        undo.pop_all()
    return stream


def proxy_name(proxy: Proxy) -> str:
    """`host:port`, as a message names it."""
    return format_address((proxy.host, proxy.port))


def _ascii_name(host: str) -> str:
    """`host` as DNS, proxies and TLS are told it, `xn--...` for letters of other alphabets."""
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise NameUnknown(
            f"{host[:200]!r} is not a host name",
            hint="correct it, for a server with: Tentacle server-comms --thumbprint=... --style=TentacleActive --host=",
        ) from None


async def _connect(address: Address, timeouts: Timeouts) -> TcpStream:
    target = address.proxy or address
    where = format_address((target.host, target.port))
    try:
        reader, writer = await asyncio.open_connection(
            _ascii_name(target.host), target.port, limit=RECEIVE_SIZE, happy_eyeballs_delay=0.25
        )
    except socket.gaierror as error:
        raise NameUnknown(
            f"the name {target.host!r} cannot be resolved: {error.strerror}",
            hint="check the name and this machine's DNS (for example with: getent hosts NAME)",
        ) from error
    except OSError as error:
        what = "proxy at " if address.proxy else ""
        raise ConnectFailed(
            f"cannot connect to {what}{where}: {_reason(error)}",
            hint="check address, port and firewalls between here and there",
        ) from error
    return TcpStream(reader, writer, timeouts)


def _reason(error: OSError) -> str:
    """The system's words for a failure to connect.

    asyncio has words of its own for it, and puts several failures, one per address of a name, into one text.
    """
    numbers = [error.errno] if error.errno else [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]
    return " / ".join(dict.fromkeys(os.strerror(number) for number in numbers)) or "no address could be reached"


async def _tunnel(tcp: TcpStream, target: str, proxy: Proxy) -> None:
    await tcp.send(connect_request(target, proxy))
    try:
        head = await tcp.read_until(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
        raise ProxyRefused(f"the proxy {proxy_name(proxy)} closed the connection or made no sense") from error
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    words = status.split(None, 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or words[1] != "200":
        shown = "".join(c if c.isprintable() else "?" for c in status[:100])
        raise ProxyRefused(
            f"the proxy {proxy_name(proxy)} refused a connection to {target}: {shown}",
            hint=_proxy_hint(words[1] if len(words) > 1 else "", head),
        )


def _proxy_hint(code: str, head: bytes) -> str:
    """What to do about a status with which a proxy refuses."""
    if code == "407":
        return other_sign_in(head) or "correct its user name and password with: Tentacle polling-proxy"
    if re.fullmatch("4..", code):
        return "whoever runs the proxy has to allow CONNECT to that host and port"
    if re.fullmatch("5..", code):
        return "check the server's address, and that the proxy's machine can reach it"
    return "check that this is the address of an HTTP proxy"


def connect_request(target: str, proxy: Proxy) -> bytes:
    """What asks the proxy for a connection to `target` (halibut.md 7)."""
    head = f"CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n".encode("ascii")
    if proxy.username and proxy.username.strip():
        credentials = f"{proxy.username}:{proxy.password or ''}".encode()
        head += b"Proxy-Authorization: Basic " + base64.b64encode(credentials) + b"\r\n"
    return head + b"\r\n"
