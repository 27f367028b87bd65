"""Our requests to a server that is polled by HTTPS, and what we make of servers that are bad, busy or elsewhere."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tentacle.errors import TentacleError
from tentacle.transport.address import Address
from tentacle.transport.errors import (
    ConnectFailed,
    Disconnected,
    NotWelcome,
    ServerBusy,
    TimedOut,
    UnexpectedCertificate,
)
from tentacle.transport.http.client import PollingClient
from tentacle.transport.proxy_logins import ProxyLogins
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.errors import ProtocolError
from tests.pki import identity
from tests.polled_server import NAME, PolledServer, polled_server

SUBSCRIPTION = f"poll://{NAME}/"
SHORT = replace(Timeouts(), polling_request=1.0, receive=0.5)
Answer = Callable[[web.Request], Awaitable[Any]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[PolledServer]:
    async with polled_server(tmp_path) as made:
        yield made


def address_of(server: PolledServer, **more: Any) -> Address:
    return Address("127.0.0.1", server.port, identity("server").thumbprint, https="", **more)


@pytest.fixture
async def client(server: PolledServer) -> AsyncIterator[PollingClient]:
    made = PollingClient(address_of(server), SUBSCRIPTION, identity("agent"), SHORT, ProxyLogins())
    yield made
    await made.aclose()


def answers(response: Callable[[], web.Response]) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return response()

    return answer


async def test_one_connection_for_everything(server: PolledServer, client: PollingClient) -> None:
    assert await client.next(1, (), at_once=True) is None
    await server.put("X.Y", identity="one")
    fetched = await client.next(1, (), at_once=False)
    assert fetched is not None
    assert b'"one"' in fetched.document
    assert fetched.date is not None
    assert await client.reply("one", b'{"jsonrpc": "2.0", "id": "one", "result": null}')
    assert not await client.reply("two", b"{}")
    with pytest.raises(KeyError):
        async for _ in client.fetch("nothing"):
            pass
    assert len(client._connector._carried) == 1


async def test_nothing_is_sent_to_a_server_with_another_certificate(server: PolledServer) -> None:
    address = replace(address_of(server), thumbprint="A" * 40)
    client = PollingClient(address, SUBSCRIPTION, identity("agent"), SHORT, ProxyLogins())
    with pytest.raises(UnexpectedCertificate):
        await client.next(1, (), at_once=True)
    await client.aclose()
    assert server.heads == []


@pytest.mark.parametrize("where", ["https://elsewhere.example/agents", "/other", "http://[", "https://u:secret@x/"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed(server: PolledServer, client: PollingClient, status: int, where: str) -> None:
    server.before = answers(lambda: web.Response(status=status, headers={"Location": where}))
    with pytest.raises(ConnectFailed, match="is not followed") as failed:
        await client.next(1, (), at_once=True)
    assert "secret" not in str(failed.value)
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (401, NotWelcome, "does not accept who this agent says it is"),
        (403, NotWelcome, "does not let this agent poll as poll://"),
        (404, ConnectFailed, "nobody is polled by HTTPS"),
        (400, ProtocolError, "status 400"),
        (418, ProtocolError, "status 418"),
        (429, ServerBusy, "cannot answer now"),
        (500, ServerBusy, "cannot answer now"),
        (503, ServerBusy, "cannot answer now"),
    ],
)
async def test_what_a_status_means(
    server: PolledServer, client: PollingClient, status: int, kind: type[Exception], text: str
) -> None:
    problem = '{"detail": "because of\\u0007 this"}'
    server.before = answers(lambda: web.Response(status=status, text=problem, content_type="application/problem+json"))
    with pytest.raises(kind, match=text) as failed:
        await client.next(1, (), at_once=True)
    assert "because of? this" in str(failed.value)


async def test_a_busy_server_is_left_alone(server: PolledServer, client: PollingClient) -> None:
    for given, waited in (("17", 17.0), ("99999", 600.0), ("-1", 0.0), ("soon", 0.0), ("9" * 5000, 0.0)):
        server.before = answers(partial(web.Response, status=503, headers={"Retry-After": given}))
        with pytest.raises(ServerBusy) as busy:
            await client.next(1, (), at_once=True)
        assert busy.value.retry_after == waited


@pytest.mark.parametrize(("off", "said"), [(3600, "behind"), (-3600, "ahead of"), (0, "registered")])
async def test_a_clock_that_is_wrong_is_named(server: PolledServer, client: PollingClient, off: int, said: str) -> None:
    headers = {"Date": formatdate(time.time() + off, usegmt=True)}
    server.before = answers(lambda: web.Response(status=401, headers=headers))
    with pytest.raises(NotWelcome) as refused:
        await client.next(1, (), at_once=True)
    assert said in str(refused.value.hint)


async def test_an_endless_answer_ends(server: PolledServer, client: PollingClient) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 2**20)
            sent += 1

    server.before = endless
    with pytest.raises(ProtocolError, match="more than"):
        await client.next(1, (), at_once=True)
    assert sent < 32


async def test_a_packed_answer_is_not_unpacked(server: PolledServer, client: PollingClient) -> None:
    server.before = answers(lambda: web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}))
    with pytest.raises(ProtocolError, match="packed"):
        await client.next(1, (), at_once=True)


async def test_silence_is_not_waited_for(server: PolledServer, client: PollingClient) -> None:
    async def silent(_: web.Request) -> None:
        await asyncio.Event().wait()

    server.before = silent
    with pytest.raises(TimedOut):
        await client.next(1, (), at_once=True)

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        await asyncio.Event().wait()
        return response

    server.before = half
    with pytest.raises(TimedOut):
        await client.next(1, (), at_once=True)


async def test_a_server_that_hangs_up(server: PolledServer, client: PollingClient) -> None:
    async def hang_up(request: web.Request) -> None:
        assert request.transport is not None
        request.transport.abort()

    server.before = hang_up
    with pytest.raises(Disconnected):
        await client.next(1, (), at_once=True)


async def test_a_certificate_that_a_file_vouches_for(server: PolledServer, tmp_path: Path) -> None:
    """The one of these tests names no host, so it is refused; and what is no file of certificates is said."""
    ca_file, in_der = tmp_path / "server.crt", tmp_path / "server.der"
    in_der.write_bytes(ssl.PEM_cert_to_DER_cert(ca_file.read_text()))
    for path, kind in (
        (ca_file, UnexpectedCertificate),
        (in_der, UnexpectedCertificate),
        (tmp_path / "none", ConnectFailed),
    ):
        address = address_of(server, ca_file=str(path))
        client = PollingClient(address, SUBSCRIPTION, identity("agent"), SHORT, ProxyLogins())
        with pytest.raises(kind) as refused:
            await client.next(1, (), at_once=True)
        assert str(path) in str(refused.value)
        await client.aclose()
    (tmp_path / "none").write_text("no certificate")
    client = PollingClient(address, SUBSCRIPTION, identity("agent"), SHORT, ProxyLogins())
    with pytest.raises(TentacleError, match="cannot be used"):
        await client.next(1, (), at_once=True)
    await client.aclose()
    assert server.heads == []
