"""Checks that the server's communications port answers, before a polling agent is registered.

Knows the `POST /handshake` of docs/spec/rest.md, "Connectivity check", over TLS that accepts any certificate, directly
or through a proxy; of a web socket, the request that opens one.  Reads the head of the answer alone: that of a Halibut
port is HTTP/1.0 with a length that counts characters, two line ends too many and a connection that is simply cut.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from tentacle.octopus.certificates import AcceptingContext
from tentacle.octopus.errors import PROXY_RULES, ConnectionFailed, is_tls_nonsense, network_reason
from tentacle.octopus.proxies import ProxyUrl
from tentacle.records import dataclass
from tentacle.thumbprints import thumbprint_of
from tentacle.wire.connect import (
    FINAL_REFUSALS,
    AnswerParser,
    HttpAnswer,
    authority,
    connect_request,
    sign_in_advice,
)
from tentacle.wire.errors import PeerClosed, ProtocolError
from tentacle.wire.web_socket import WebSocket

DELAYS = (0.75, 1.125, 1.6875, 2.53125)
"""Seconds before the second, third, fourth and fifth attempt."""
_HINT = (
    "Check --server-comms-address and --server-comms-port, that the server's communications port is open, and that "
    "nothing in between blocks or replaces it."
)
_PROXY_HINT = "Correct the proxy's user name and password with: Tentacle polling-proxy --proxyEnable=true ..."
_PROXY_AWAY_HINT = "Check the proxy's name and port, and set them with: Tentacle polling-proxy --proxyEnable=true ..."
_ACCEPTED = frozenset({200, 400})
"""Statuses of a Halibut port that works."""
_WEB_SOCKET_ACCEPTED = frozenset({101, 400})
"""Those of a web socket that works; 400 where a certificate is wanted that is not shown here."""
_REFUSED = frozenset({400, 401, 403})
"""Those of a server that is polled by HTTPS, to a stranger; 400 where a certificate is wanted that is not shown."""
_WEB_SOCKET_HINT = (
    "Check --server-web-socket and its path, that the server listens for web sockets there, and that nothing in "
    "between blocks or replaces it."
)


class _AttemptFailed(OSError):
    """An attempt got an answer, but not the right one."""


class _ProxyAway(_AttemptFailed):
    """The proxy cannot be reached; it may be back soon."""


class _ProxyRefused(_AttemptFailed):
    """The proxy refused, and will again: asking over and over with a wrong password locks accounts."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class ConnectivityCheck:
    """How the port is asked.

    `delays` are the seconds between attempts, so that there is one attempt more than there are delays; `timeout` is in
    seconds, for one attempt; `on_retry` gets a line before each delay.
    """

    delays: Sequence[float] = DELAYS
    timeout: float = 20.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    on_retry: Callable[[str], None] = lambda _: None

    async def run(
        self,
        host: str,
        port: int,
        *,
        proxy: ProxyUrl | None = None,
        web_socket: str | None = None,
        https: str | None = None,
    ) -> str:
        """Returns the SHA-1 thumbprint of the certificate on `host:port` once it answers; `host` without brackets.

        `web_socket` is the path of one that has to open there, `https` the one below which agents poll by HTTPS;
        without either the port speaks Halibut.  Raises `ConnectionFailed` after the last attempt.
        """
        attempts, usual = len(self.delays) + 1, _HINT if web_socket is None else _WEB_SOCKET_HINT
        asked = _Asked(_request(authority(host, port), web_socket, https), _accepted(web_socket, https))
        for number in range(1, attempts + 1):
            try:
                async with asyncio.timeout(self.timeout):
                    return await _handshake(host, port, proxy, asked)
            except _ProxyRefused as error:
                reason, hint = str(error), error.hint
                break
            except (OSError, EOFError, ValueError) as error:
                reason = self._reason(error)
                hint = _PROXY_AWAY_HINT if isinstance(error, _ProxyAway) else usual
                if is_tls_nonsense(error):
                    break
            if number < attempts:
                delay = self.delays[number - 1]
                self.on_retry(
                    f"Checking that server communications are open failed with message {reason}. "
                    f"Retrying ({number}/{attempts}) in {delay:g} s."
                )
                await self.sleep(delay)
        through = f" through the proxy {proxy.url}" if proxy else ""
        raise ConnectionFailed(
            f"The Octopus Server's communications port {authority(host, port)} cannot be used{through}: {reason} "
            f"(tried {number} time{'s' if number > 1 else ''}).",
            hint=hint,
        )

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError) and not error.args:
            return f"no answer within {self.timeout:g} seconds"
        reason = network_reason(error)
        return f"no TLS connection ({reason})" if isinstance(error, ssl.SSLError) else reason


@dataclass(frozen=True)
class _Asked:
    request: bytes
    accepted: frozenset[int]


async def _handshake(host: str, port: int, proxy: ProxyUrl | None, asked: _Asked) -> str:
    """Asks once, and returns the thumbprint of the certificate that was shown."""
    context = AcceptingContext()
    if proxy is None:
        reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    else:
        try:
            reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        except OSError as error:
            raise _ProxyAway(f"the proxy cannot be reached ({network_reason(error)})") from error
    try:
        if proxy is not None:
            await _connect_through(reader, writer, host, port, proxy)
            await writer.start_tls(context, server_hostname=host)
        writer.write(asked.request)
        await writer.drain()
        answer = await _read_answer(reader)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
    if answer.status not in asked.accepted:
        raise _AttemptFailed(f"it answered with HTTP status {answer.status}")
    certificate = context.presented()
    assert certificate is not None, "an answer over TLS comes after a handshake"
    return thumbprint_of(certificate)


def _accepted(web_socket: str | None, https: str | None) -> frozenset[int]:
    return _ACCEPTED if web_socket is None and https is None else _WEB_SOCKET_ACCEPTED if https is None else _REFUSED


def _request(host: str, web_socket: str | None, https: str | None) -> bytes:
    if https is not None:
        return (
            f"POST {https}/agents/nobody/next HTTP/1.1\r\nHost: {host}\r\nPrefer: wait=0\r\n"
            'Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{"max": 1}'
        ).encode()
    if web_socket is not None:
        return WebSocket.dialled(host, web_socket).owed()
    return f"POST /handshake HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n".encode()


async def _connect_through(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, proxy: ProxyUrl
) -> None:
    writer.write(connect_request(host, port, proxy.authorization))
    await writer.drain()
    answer = await _read_answer(reader)
    if answer.status == 407:
        hint = sign_in_advice(answer.offers) or _PROXY_HINT
        raise _ProxyRefused("the proxy wants other credentials (HTTP status 407)", hint)
    if answer.status in FINAL_REFUSALS:
        raise _ProxyRefused(f"the proxy refused with HTTP status {answer.status}", PROXY_RULES)
    if not answer.connected:
        raise _AttemptFailed(f"the proxy could not connect to it (HTTP status {answer.status})")


async def _read_answer(reader: asyncio.StreamReader) -> HttpAnswer:
    parser = AnswerParser()
    try:
        while (answer := parser.feed(await reader.read(4096))) is None:
            pass
    except PeerClosed:
        raise _AttemptFailed("the connection was closed without an answer") from None
    except ProtocolError:
        raise _AttemptFailed("its answer is not one of HTTP") from None
    if answer.status is None:
        raise _AttemptFailed("it does not speak HTTP")
    return answer
