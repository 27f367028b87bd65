"""The way to a port, with everything that may stand on it: nobody, somebody silent, somebody else, a proxy."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from pathlib import Path

import pytest

from tentacle.cli.doctor.reach import ProbeTarget, Reached, reach
from tentacle.home_layout import WORK
from tentacle.octopus.proxies import ProxyUrl
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport.address import Proxy
from tentacle.transport.proxy_logins import ProxyLogins
from tentacle.transport.proxy_refusals import KeptRefusals
from tests.sockets import silent, talking


def told(reached: Reached) -> list[tuple[str, str]]:
    return [(one.check, one.level.value) for one in reached.findings]


async def test_the_certificate_of_whoever_answers(identity: StoredCertificate, context: ssl.SSLContext) -> None:
    async with talking(silent, context) as port:
        reached = await reach(ProbeTarget("127.0.0.1", port))
    assert told(reached) == [("tcp", "ok")]
    assert reached.complete
    assert reached.certificate is not None
    assert reached.certificate.thumbprint == identity.thumbprint
    assert reached.certificate.self_signed


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        reached = await reach(ProbeTarget("127.0.0.1", taken.getsockname()[1]))
    assert told(reached) == [("tcp", "FAIL")]
    assert "connection refused" in reached.findings[0].found
    assert "Nothing listens there" in (reached.findings[0].advice or "")


async def test_no_way_leads_there() -> None:
    # To everybody at once no connection can be made, on any machine.
    reached = await reach(ProbeTarget("255.255.255.255", 10943))
    assert told(reached) == [("tcp", "FAIL")]
    assert "network is unreachable" in reached.findings[0].found
    assert "ip route" in (reached.findings[0].advice or "")


async def test_a_name_that_does_not_exist() -> None:
    reached = await reach(ProbeTarget("octopus.invalid", 10943))
    assert told(reached) == [("name", "FAIL")]
    assert "getent hosts octopus.invalid" in (reached.findings[0].advice or "")


async def test_a_peer_that_is_silent_costs_the_limit_and_no_more() -> None:
    async with talking(silent) as port:
        reached = await reach(ProbeTarget("127.0.0.1", port, limit=0.3))
    assert told(reached) == [("tcp", "ok"), ("tls", "FAIL")]
    assert "nothing answers the TLS handshake" in reached.findings[1].found


async def test_a_peer_that_speaks_something_else() -> None:
    async def ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-\x1b[2Jx\r\n")
        await reader.read()

    async with talking(ssh) as port:
        reached = await reach(ProbeTarget("127.0.0.1", port))
    assert told(reached) == [("tcp", "ok"), ("tls", "FAIL")]


async def test_through_a_proxy_that_lets_us_and_one_that_does_not(
    identity: StoredCertificate, context: ssl.SSLContext
) -> None:
    heads: list[bytes] = []

    async with talking(silent, context) as port:

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            if b"Proxy-Authorization: Basic dTpwdw==" not in heads[-1]:
                writer.write(b"HTTP/1.1 407 No\r\n\r\n")
                return
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            there = asyncio.create_task(pump(reader, to_writer))
            await pump(to_reader, writer)
            await there

        async with talking(proxy) as proxy_port:
            good = await reach(ProbeTarget("127.0.0.1", port, ProxyUrl("127.0.0.1", proxy_port, "u", "pw")))
            bad = await reach(ProbeTarget("127.0.0.1", port, ProxyUrl("127.0.0.1", proxy_port)))
    assert told(good) == [("proxy tcp", "ok"), ("proxy", "ok")]
    assert good.certificate is not None
    assert good.certificate.thumbprint == identity.thumbprint
    assert told(bad) == [("proxy tcp", "ok"), ("proxy", "FAIL")]
    assert "407" in bad.findings[1].found
    assert heads[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    ("status", "found", "advice"),
    [
        (b"HTTP/1.1 407 No", "other credentials (407)", "Set its user and password"),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM", "other credentials (407)", "The proxy offers NTLM"),
        (b"HTTP/1.1 403 No", "HTTP status 403", "allow CONNECT to octopus.test:1"),
        (b"HTTP/1.1 503 No", "HTTP status 503", "the proxy's machine can reach it"),
        (b"HTTP/1.1 201 Made", "HTTP status 201", "the proxy's machine can reach it"),
        (b"SSH-2.0", "something that is not HTTP", "Is it an HTTP proxy"),
        (b"x" * 100_000, "closed the connection", "Is it an HTTP proxy"),
    ],
)
async def test_a_proxy_that_refuses_is_told_as_the_agent_tells_it(status: bytes, found: str, advice: str) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(status + b"\r\n\r\n")
        await reader.read()

    async with talking(proxy) as port:
        reached = await reach(ProbeTarget("octopus.test", 1, ProxyUrl("127.0.0.1", port)))
    assert told(reached) == [("proxy tcp", "ok"), ("proxy", "FAIL")]
    assert found in reached.findings[1].found
    assert advice in (reached.findings[1].advice or "")


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    finally:
        writer.close()


async def test_a_login_that_the_agent_was_refused_a_moment_ago_is_named_and_not_tried(tmp_path: Path) -> None:
    (tmp_path / WORK).mkdir()
    async with talking(silent) as port:
        KeptRefusals(tmp_path).refused(Proxy("127.0.0.1", port, "u", "wrong"))
        logins = ProxyLogins(pause=math.inf, refusals=KeptRefusals(tmp_path))
        found = await reach(ProbeTarget("127.0.0.1", 1, ProxyUrl("127.0.0.1", port, "u", "wrong")), logins)
    assert told(found) == [("proxy tcp", "ok"), ("proxy", "FAIL")]
    assert "has refused this login before" in found.findings[1].found
