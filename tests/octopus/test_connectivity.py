"""The question whether the communications port answers, put to raw TLS servers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tentacle.octopus.connectivity import DELAYS, ConnectivityCheck
from tentacle.octopus.errors import ConnectionFailed, network_reason
from tentacle.octopus.proxies import ProxyUrl
from tests.sockets import talking

PAGE = "<html><body>Hällo, Octopus</body></html>"
HALIBUT = (
    f"HTTP/1.0 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(PAGE)}\r\n\r\n{PAGE}\r\n\r\n"
).encode()


@asynccontextmanager
async def peer(
    answer: bytes, tls: ssl.SSLContext | None, *, silent: bool = False, seen: list[bytes] | None = None
) -> AsyncIterator[int]:
    """Answers one request with these bytes and cuts the connection, without TLS's good-bye."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n") if tls else await reader.read(1)
            if seen is not None:
                seen.append(head)
            if silent:
                await reader.read()
            writer.write(answer)
            await writer.drain()
        finally:
            writer.transport.abort()

    async with talking(handle, tls) as port:
        yield port


async def no_time(_: float) -> None:
    await asyncio.sleep(0)


def quick(**options: Any) -> ConnectivityCheck:
    return ConnectivityCheck(**{"sleep": no_time, "timeout": 2.0, **options})


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(HALIBUT, id="halibut"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="400"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 999999999999\r\n\r\n", id="a length that is a lie"),
        pytest.param(b"HTTP/1.0 200\r\nX\r\n\r\n\xff\xfe", id="no reason"),
    ],
)
async def test_a_port_that_answers(answer: bytes, server_tls: Any, certificate: Any) -> None:
    seen: list[bytes] = []
    async with peer(answer, server_tls, seen=seen) as port:
        assert await quick().run("127.0.0.1", port) == certificate[1]
    assert seen == [
        f"POST /handshake HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Content-Length: 0\r\nConnection: Keep-Alive\r\n\r\n".encode()
    ]


@pytest.mark.parametrize("status", [b"101 Switching Protocols", b"400 No required SSL certificate was sent"])
async def test_a_web_socket_that_opens(status: bytes, server_tls: Any, certificate: Any) -> None:
    seen: list[bytes] = []
    async with peer(b"HTTP/1.1 " + status + b"\r\n\r\n", server_tls, seen=seen) as port:
        found = await quick(delays=()).run("127.0.0.1", port, web_socket="/OctopusComms")
    assert found == certificate[1]
    assert seen[0].startswith(b"GET /OctopusComms HTTP/1.1\r\n")
    assert b"\r\nSec-WebSocket-Protocol: Octopus\r\n" in seen[0]


@pytest.mark.parametrize("answer", [HALIBUT, b"HTTP/1.1 404 Not Found\r\n\r\n"], ids=["page", "404"])
async def test_a_port_that_opens_no_web_socket(answer: bytes, server_tls: Any) -> None:
    async with peer(answer, server_tls) as port:
        with pytest.raises(ConnectionFailed, match="it answered with HTTP status") as failed:
            await quick(delays=()).run("127.0.0.1", port, web_socket="/OctopusComms")
    assert "Check --server-web-socket and its path" in (failed.value.hint or "")


async def test_it_is_asked_again_after_real_pauses(server_tls: Any) -> None:
    slept: list[float] = []
    said: list[str] = []
    seen: list[bytes] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with peer(b"HTTP/1.1 503 Busy\r\n\r\n", server_tls, seen=seen) as port:
        with pytest.raises(ConnectionFailed) as caught:
            await quick(sleep=sleep, on_retry=said.append).run("127.0.0.1", port)
    assert tuple(slept) == DELAYS
    assert len(seen) == 5
    assert len(said) == 4
    assert said[0] == (
        "Checking that server communications are open failed with message it answered with HTTP status 503. "
        "Retrying (1/5) in 0.75 s."
    )
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "--server-comms-port" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("answer", "tls", "said"),
    [
        pytest.param(b"SSH-2.0\r\n\r\n", True, "does not speak HTTP", id="another protocol"),
        pytest.param(b"HTTP/1.1 302 Found\r\n\r\n", True, "status 302", id="a redirect"),
        pytest.param(b"", True, "closed", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", True, "closed", id="half an answer"),
        pytest.param(b"x" * 300_000, True, "not one of HTTP", id="endless"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", False, "no TLS connection", id="no TLS"),
    ],
)
async def test_a_port_that_is_something_else(answer: bytes, tls: bool, said: str, server_tls: Any) -> None:
    async with peer(answer, server_tls if tls else None) as port:
        with pytest.raises(ConnectionFailed, match=said):
            await quick(delays=()).run("127.0.0.1", port)


async def test_what_speaks_no_tls_is_asked_once() -> None:
    async with peer(b"HTTP/1.1 400 Bad Request\r\n\r\n", None) as port:
        with pytest.raises(ConnectionFailed, match=r"no TLS connection .* \(tried 1 time\)"):
            await quick().run("127.0.0.1", port)


async def test_a_port_that_is_closed_and_one_that_is_silent(server_tls: Any) -> None:
    async with peer(b"", server_tls) as port:
        pass
    with pytest.raises(ConnectionFailed, match="refused"):
        await quick(delays=()).run("127.0.0.1", port)
    async with peer(b"", server_tls, silent=True) as port:
        with pytest.raises(ConnectionFailed, match=r"no answer within 0\.1 seconds"):
            await quick(delays=(), timeout=0.1).run("127.0.0.1", port)


async def test_through_a_proxy(server_tls: Any, certificate: Any, tunnel: Any) -> None:
    seen: list[bytes] = []
    async with peer(HALIBUT, server_tls) as port, tunnel(b"200 Connection established", seen) as between:
        proxy = ProxyUrl("127.0.0.1", between, "me", "s3cret")
        assert await quick().run("127.0.0.1", port, proxy=proxy) == certificate[1]
    assert proxy.authorization
    assert f"Proxy-Authorization: {proxy.authorization}\r\n".encode() in seen[0]


@pytest.mark.parametrize(
    ("status", "said", "tried", "hint"),
    [
        (b"407 No", "other credentials", 1, "user name and password"),
        (b"407 No\r\nProxy-Authenticate: NTLM", "other credentials", 1, "The proxy offers NTLM"),
        (b"403 No", "refused with HTTP status 403", 1, "has to allow CONNECT"),
        (b"429 No", "could not connect to it", 2, "communications port is open"),
        (b"503 No", "could not connect to it", 2, "communications port is open"),
        (b"201 Made", "could not connect to it", 2, "communications port is open"),
    ],
)
async def test_a_proxy_that_says_no(status: bytes, said: str, tried: int, hint: str, tunnel: Any) -> None:
    seen: list[bytes] = []
    async with tunnel(status, seen) as between:
        with pytest.raises(ConnectionFailed, match=said) as caught:
            proxy = ProxyUrl("127.0.0.1", between, "me", "s3cret")
            await quick(delays=(0.0,)).run("octopus.test", 10943, proxy=proxy)
    assert len(seen) == tried, "a proxy that says no for good is not asked again"
    assert hint in (caught.value.hint or "")
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"
    assert f"through the proxy http://127.0.0.1:{between}" in str(caught.value)


def test_failures_of_several_addresses_are_told_once_each() -> None:
    several = OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] x, [Errno 101] y")
    assert network_reason(several) == "Connection refused / Network is unreachable"
    assert network_reason(ConnectionRefusedError(111, "Connect call failed ('::1', 1)")) == "Connection refused"
