"""Whether the server's communications port answers, asked before a polling agent is registered.

Knows the `POST /handshake` of tentacle-cli.md 5.3, step 7, over TLS without trust, and CONNECT proxies.  Reads only as
far as the status line: the answer of a Halibut port is HTTP/1.0 with a length that counts characters, two line ends too
many and a connection that is simply cut.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from tentacle.errors import one_line
from tentacle.octopus.certificates import AcceptingContext, thumbprint_of
from tentacle.octopus.errors import FINAL_REFUSALS, PROXY_RULES, ConnectionFailed
from tentacle.octopus.proxies import ProxyUrl
from tentacle.wire.proxy_answer import other_sign_in

DELAYS = (0.75, 1.125, 1.6875, 2.53125)
"""Seconds before the second, third, fourth and fifth attempt."""
_HINT = (
    "Check --server-comms-address and --server-comms-port, that the server's communications port is open, and that "
    "nothing in between blocks or replaces it."
)
_PROXY_HINT = "Correct the proxy's user name and password with: Tentacle polling-proxy --proxyEnable=true ..."
MAX_HEAD = 64 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_ACCEPTED = frozenset({200, 400})

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Refused(OSError):
    """An attempt that got an answer, but not the right one."""


class _Denied(_Refused):
    """The proxy said no for good: asking again and again with a wrong password locks accounts.  `hint`: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class ConnectivityCheck:
    """`delays` in seconds between attempts (their number plus one is how often it is tried), `timeout` per attempt."""

    delays: Sequence[float] = DELAYS
    timeout: float = 20.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    on_retry: Callable[[str], None] = lambda _: None

    async def run(self, host: str, port: int, *, proxy: ProxyUrl | None = None) -> str:
        """The SHA-1 thumbprint of the certificate on `host:port` once it answers; `host` without brackets.

        Raises `ConnectionFailed` after the last attempt.
        """
        attempts, hint = len(self.delays) + 1, _HINT
        for number in range(1, attempts + 1):
            try:
                async with asyncio.timeout(self.timeout):
                    return await _attempt(host, port, proxy)
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                said = _said(error, self.timeout)
                hint = error.hint if isinstance(error, _Denied) else _HINT
            if hint is not _HINT:
                break
            if number < attempts:
                delay = self.delays[number - 1]
                self.on_retry(
                    f"Checking that server communications are open failed with message {said}. "
                    f"Retrying ({number}/{attempts}) in {delay:g} s."
                )
                await self.sleep(delay)
        through = f" through the proxy {proxy.url}" if proxy else ""
        raise ConnectionFailed(
            f"The Octopus Server's communications port {_authority(host, port)} cannot be used{through}: {said} "
            f"(tried {number} time{'s' if number > 1 else ''}).",
            hint=hint,
        )


async def _attempt(host: str, port: int, proxy: ProxyUrl | None) -> str:
    context = AcceptingContext()
    async with _connected(host, port, proxy, context) as (reader, writer):
        authority = _authority(host, port)
        writer.write(
            f"POST /handshake HTTP/1.1\r\nHost: {authority}\r\n"
            "Content-Length: 0\r\nConnection: Keep-Alive\r\n\r\n".encode()
        )
        await writer.drain()
        status, _ = await _answer(reader)
        if status not in _ACCEPTED:
            raise _Refused(f"it answered with HTTP status {status}")
        presented = context.presented()
        assert presented is not None, "an answer over TLS comes after a handshake"
        return thumbprint_of(presented)


@asynccontextmanager
async def _connected(host: str, port: int, proxy: ProxyUrl | None, context: ssl.SSLContext) -> AsyncIterator[Streams]:
    """A TLS stream to `host:port`, cut without ceremony at the end."""
    if proxy is None:
        reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host, limit=MAX_HEAD)
    else:
        reader, writer = await _proxy_streams(proxy)
    try:
        if proxy is not None:
            await _tunnel(reader, writer, host, port, proxy)
            await writer.start_tls(context, server_hostname=host)
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def _proxy_streams(proxy: ProxyUrl) -> Streams:
    try:
        return await asyncio.open_connection(proxy.host, proxy.port, limit=MAX_HEAD)
    except OSError as error:
        raise _Refused(f"the proxy cannot be reached ({_said(error, 0)})") from error


async def _tunnel(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, proxy: ProxyUrl
) -> None:
    authority = _authority(host, port)
    credentials = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    writer.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{credentials}\r\n".encode())
    await writer.drain()
    status, head = await _answer(reader)
    if status == 407:
        raise _Denied("the proxy wants other credentials (HTTP status 407)", other_sign_in(head) or _PROXY_HINT)
    if status in FINAL_REFUSALS:
        raise _Denied(f"the proxy refused with HTTP status {status}", PROXY_RULES)
    if not 200 <= status < 300:
        raise _Refused(f"the proxy could not connect to it (HTTP status {status})")


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status of an HTTP answer and its head, which is consumed."""
    head = await reader.readuntil(b"\r\n\r\n")
    match = _STATUS_LINE.match(head)
    if match is None:
        raise _Refused("it does not speak HTTP")
    return int(match[1]), head


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _said(error: BaseException, timeout: float) -> str:
    match error:
        case TimeoutError() if not error.args:
            return f"no answer within {timeout:g} seconds"
        case asyncio.IncompleteReadError():
            return "the connection was closed without an answer"
        case asyncio.LimitOverrunError():
            return "its answer is not one of HTTP"
        case ssl.SSLError():
            return f"no TLS connection ({(error.reason or one_line(error)).lower().replace('_', ' ')})"
        case ConnectionError() if error.errno:
            return os.strerror(error.errno)
        case OSError():
            return (error.strerror or one_line(error)).rstrip(".")
    return one_line(error)
