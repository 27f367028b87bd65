"""One request and its answer: bounded in time and size, over TLS and through proxies."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tentacle.octopus import http_client
from tentacle.octopus.errors import (
    CertificateRefused,
    ConnectionFailed,
    InvalidAddress,
    NotAnOctopusServer,
    NotFound,
    NoTls,
    ProxyRefused,
)
from tentacle.octopus.http_client import HttpClient, HttpOptions
from tentacle.octopus.proxies import ProxyUrl
from tests.octopus.answers import KEY, answering, clean, text
from tests.odd_certificates import RECIPES, REFUSED_BY_OPENSSL, REFUSED_BY_OPENSSL_SERVERS, as_pem, odd_der
from tests.pki import pem
from tests.sockets import talking


async def test_what_does_not_speak_http(connect: Any) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()

    async with talking(talk) as port:
        with pytest.raises((NotAnOctopusServer, ConnectionFailed)) as caught:
            async with connect(f"http://127.0.0.1:{port}"):
                pass
    clean(caught.value)


@pytest.mark.parametrize("packed", [False, True])
async def test_a_huge_answer_is_cut(packed: bool, octopus: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_BODY", 1 << 20)
    body = b" " * (2 << 20)
    answer = text(zlib.compress(body), Content_Encoding="deflate") if packed else text(body)
    server = await octopus(intercept=answering("/api", answer))
    with pytest.raises(NotAnOctopusServer, match="longer than 1 MiB"):
        async with connect(server):
            pass


async def test_an_endless_answer_is_cut(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_BODY", 1 << 20)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with talking(talk) as port:
        with pytest.raises(NotAnOctopusServer, match="longer than"):
            async with connect(f"http://127.0.0.1:{port}"):
                pass


@pytest.mark.parametrize("drip", [False, True])
async def test_a_silent_peer_and_one_that_drips(drip: bool, connect: Any) -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with talking(silent if not drip else _dripping) as port:
        with pytest.raises(ConnectionFailed, match=r"did not answer within 0\.1 seconds") as caught:
            async with connect(f"http://127.0.0.1:{port}", timeout=0.1, retry_for=0.0):
                pass
    clean(caught.value)


async def _dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def test_an_unknown_certificate_is_described(
    octopus: Any, connect: Any, server_tls: Any, certificate: Any
) -> None:
    server = await octopus(tls=server_tls)
    with pytest.raises(CertificateRefused) as caught:
        async with connect(server):
            pass
    error = caught.value
    assert error.exit_code == 1
    assert error.thumbprint == certificate[1]
    assert certificate[1] in str(error)
    assert "'CN=Octopus of the test'" in str(error)
    assert "self-signed certificate" in str(error)
    assert "--ignoreSslErrors" in (error.hint or "")
    assert all("X-Octopus-ApiKey" not in request.headers for request in server.requests)


@pytest.mark.parametrize("name", sorted(set(RECIPES) - REFUSED_BY_OPENSSL - REFUSED_BY_OPENSSL_SERVERS))
async def test_an_odd_certificate_is_refused_in_one_line_and_taken_when_it_is_pinned(
    name: str, octopus: Any, connect: Any, tmp_path: Path
) -> None:
    (tmp_path / "odd.pem").write_bytes(as_pem(odd_der(name)) + pem("odd")[1])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "odd.pem")
    server = await octopus(tls=tls)
    with pytest.raises(CertificateRefused) as caught:
        async with connect(server):
            pass
    assert caught.value.thumbprint == hashlib.sha1(odd_der(name), usedforsecurity=False).hexdigest().upper()
    assert len(str(caught.value).splitlines()) == 1
    async with connect(server, pin=caught.value.thumbprint) as client:
        assert (await client.get("/api/users/me")).text("Id") == "Users-1"


@pytest.mark.parametrize("way", ["file", "ignored"])
async def test_a_certificate_that_is_accepted(
    way: str, octopus: Any, connect: Any, server_tls: ssl.SSLContext, certificate: Any
) -> None:
    options = {"ca_file": certificate[0]} if way == "file" else {"ignore_ssl_errors": True}
    async with connect(await octopus(tls=server_tls), **options) as client:
        assert (await client.get("/api/users/me")).text("Id") == "Users-1"


async def test_a_certificate_file_that_is_none(octopus: Any, connect: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidAddress, match=r"nowhere\.pem"):
        async with connect(await octopus(), ca_file=tmp_path / "nowhere.pem"):
            pass


async def test_https_where_http_is_spoken(octopus: Any, connect: Any) -> None:
    server = await octopus()
    notices: list[str] = []
    with pytest.raises(NoTls, match="No TLS connection") as caught:
        async with connect(server.url.replace("http://", "https://"), on_notice=notices.append):
            pass
    assert "http://" in (caught.value.hint or "")
    assert notices == [], "it is said at once"


async def test_http_where_https_is_spoken(octopus: Any, connect: Any, server_tls: ssl.SSLContext) -> None:
    """Such servers close the connection without a word, as one does that is just starting."""
    server = await octopus(tls=server_tls)
    notices: list[str] = []
    with pytest.raises(NoTls, match="speaks HTTPS on this port, and not plain HTTP") as caught:
        async with connect(server.url.replace("https://", "http://"), on_notice=notices.append):
            pass
    assert caught.value.hint == "Use https:// in its address."
    assert notices == []
    assert all("X-Octopus-ApiKey" not in request.headers for request in server.requests)


async def test_a_version_of_tls_that_we_do_not_speak(connect: Any) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(bytes.fromhex("15030100020246"))  # the alert "protocol_version"
        await writer.drain()
        await reader.read()

    notices: list[str] = []
    async with talking(talk) as port:
        with pytest.raises(NoTls, match="protocol version"):
            async with connect(f"https://127.0.0.1:{port}", on_notice=notices.append):
                pass
    assert notices == []


async def test_a_server_that_answers_one_request_a_connection_without_saying_so() -> None:
    """A second request on the same connection would be swallowed: nobody could tell whether it was done."""
    asked: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[0].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await reader.read(1)

    async with talking(talk) as port, HttpClient(HttpOptions(), user_agent="t", cookies=False, on_request=None) as http:
        for method in ("GET", "POST", "POST"):
            assert (await http.send(method, URL(f"http://127.0.0.1:{port}/"), {})).status == 200
    assert asked == ["GET", "POST", "POST"]


async def test_a_proxy_with_credentials(octopus: Any, connect: Any) -> None:
    server, proxy = await octopus(), await octopus()
    port = int(proxy.url.rpartition(":")[2])
    given = ProxyUrl("127.0.0.1", port, "me", "s3cret")
    async with connect(server, proxy=given):
        pass
    assert not server.requests
    assert proxy.requests[0].headers["Proxy-Authorization"] == given.authorization


async def test_the_environment_is_asked_only_when_allowed(
    octopus: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = await octopus(), await octopus()
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    async with connect(server):
        assert (len(server.requests), len(proxy.requests)) == (1, 0)
    async with connect(server, trust_env=True):
        assert (len(server.requests), len(proxy.requests)) == (1, 1)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with connect(server, trust_env=True):
        assert (len(server.requests), len(proxy.requests)) == (2, 1)


async def test_a_proxy_that_is_gone_or_says_no(octopus: Any, connect: Any, server_tls: ssl.SSLContext) -> None:
    async with talking(lambda *_: asyncio.sleep(0)) as port:
        pass
    with pytest.raises(ConnectionFailed, match=r"proxy http://127\.0\.0\.1:\d+ cannot be reached"):
        async with connect("http://octopus.test", proxy=ProxyUrl("127.0.0.1", port), retry_for=0.0):
            pass

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n")

    async with talking(refuse) as port:
        for server in ("https://octopus.test", "http://octopus.test"):
            with pytest.raises(ProxyRefused, match="407") as caught:
                async with connect(server, proxy=ProxyUrl("127.0.0.1", port, "me", "s3cret")):
                    pass
            assert "s3cret" not in f"{caught.value} {caught.value.hint}"
            assert "The proxy offers NTLM" in (caught.value.hint or "")


async def test_tls_through_a_proxy(octopus: Any, connect: Any, tunnel: Any, server_tls: Any, certificate: Any) -> None:
    seen: list[bytes] = []
    server = await octopus(tls=server_tls)
    async with tunnel(b"200 OK", seen) as port:
        proxy = ProxyUrl("127.0.0.1", port, "me", "s3cret")
        with pytest.raises(CertificateRefused, match=certificate[1]):
            async with connect(server, proxy=proxy):
                pass
        async with connect(server, proxy=proxy, ca_file=certificate[0]):
            pass
    assert proxy.authorization
    assert all(f"Proxy-Authorization: {proxy.authorization}\r\n".encode() in head for head in seen)
    assert all(KEY.encode() not in head for head in seen)
    assert "Proxy-Authorization" not in server.requests[-1].headers


async def test_what_verbose_shows(octopus: Any, connect: Any) -> None:
    lines: list[str] = []
    server = await octopus()
    async with connect(server, on_request=lines.append) as client:
        with pytest.raises(NotFound):
            await client.get("/api/nothing")
    assert lines == [f"GET {server.url}/api: 200", f"GET {server.url}/api/nothing: 404"]


async def test_a_silent_server_behind_a_proxy_is_told_apart(connect: Any) -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with talking(silent) as port:
        for server in ("http://octopus.test", "https://octopus.test"):
            with pytest.raises(ConnectionFailed, match=rf"did not answer through the proxy http://127\.0\.0\.1:{port}"):
                async with connect(server, proxy=ProxyUrl("127.0.0.1", port), timeout=0.3, retry_for=0.0):
                    pass


@pytest.mark.parametrize(
    ("offers", "hint"),
    [
        (b"Proxy-Authenticate: Basic realm=x\r\nProxy-Authenticate: NTLM\r\n", "Correct its user name and password"),
        (b"Proxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n", "The proxy offers NTLM, Negotiate"),
    ],
)
@pytest.mark.parametrize("server", ["http://octopus.test", "https://octopus.test"])
async def test_all_that_a_proxy_offers_is_read(offers: bytes, hint: str, server: str, connect: Any) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n" + offers + b"\r\n")
        await reader.read()

    async with talking(proxy) as port:
        with pytest.raises(ProxyRefused) as caught:
            async with connect(server, proxy=ProxyUrl("127.0.0.1", port)):
                pass
    assert hint in (caught.value.hint or "")


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port whose queue is full: the system drops whoever wants to connect, as firewalls do."""
    with socket.socket() as listening, ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


async def test_a_firewall_that_swallows_connections(
    black_hole: int, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentacle.octopus.http_client.CONNECT_SECONDS", 0.2)
    address = f"http://127.0.0.1:{black_hole}"
    with pytest.raises(ConnectionFailed) as caught:
        async with connect(address, retry_for=0.0):
            pass
    assert caught.value.message == f"The Octopus Server at {address} did not take a connection within 0.2 seconds."
    with pytest.raises(ConnectionFailed, match=rf"The proxy {address} did not take a connection within 0\.2 seconds"):
        async with connect("http://octopus.test", proxy=ProxyUrl("127.0.0.1", black_hole), retry_for=0.0):
            pass


# One request and its answer, without what a client makes of it.


@asynccontextmanager
async def sending(*, cookies: bool = False, **options: Any) -> AsyncIterator[HttpClient]:
    async with HttpClient(HttpOptions(**options), user_agent="test/1", cookies=cookies, on_request=None) as client:
        yield client


async def test_a_redirect_is_an_answer_and_headers_are_in_lower_case(octopus: Any) -> None:
    server = await octopus(intercept=answering("/x", text("body", 302, Location="/y", X_Odd_CASE="1")))
    async with sending() as client:
        response = await client.send("GET", URL(server.url + "/x"), {})
    assert (response.status, response.body, response.url.path) == (302, b"body", "/x")
    assert (response.headers["location"], response.headers["x-odd-case"]) == ("/y", "1")
    assert server.gets == ["/x"]


async def test_headers_go_with_one_request_only(octopus: Any) -> None:
    server = await octopus()
    async with sending() as client:
        await client.send("POST", URL(server.url + "/x"), {"X-Octopus-ApiKey": KEY}, b'{"a": 1}')
        await client.send("GET", URL(server.url + "/x"), {})
    first, second = server.requests
    assert (first.method, first.body, first.headers["X-Octopus-ApiKey"]) == ("POST", {"a": 1}, KEY)
    assert "X-Octopus-ApiKey" not in second.headers
    assert {first.headers["User-Agent"], second.headers["User-Agent"]} == {"test/1"}
    assert "Content-Type" not in first.headers, "the caller says what it sends"


@pytest.mark.parametrize("kept", [True, False])
async def test_cookies_are_kept_only_when_they_are_wanted(kept: bool, octopus: Any) -> None:
    server = await octopus(intercept=answering("/x", text("", 200, Set_Cookie="odd=a|b%2Fc=; path=/")))
    async with sending(cookies=kept) as client:
        for _ in range(2):
            await client.send("GET", URL(server.url + "/x"), {})
        assert client.cookie_names_and_values(URL(server.url)) == ([("odd", "a|b%2Fc=")] if kept else [])
    assert [request.headers.get("Cookie") for request in server.requests] == [None, "odd=a|b%2Fc=" if kept else None]


async def test_the_one_certificate_that_is_known_is_enough_and_no_other_is(
    octopus: Any, server_tls: Any, certificate: Any
) -> None:
    server = await octopus(tls=server_tls)
    async with sending(pin=certificate[1]) as client:
        assert (await client.send("GET", URL(server.url + "/api"), {})).status == 200
    # That something else is to be ignored does not count beside it.
    async with sending(pin="0" * 40, ignore_ssl_errors=True) as client:
        with pytest.raises(CertificateRefused, match=certificate[1]) as caught:
            await client.send("GET", URL(server.url + "/api"), {"X-Octopus-ApiKey": KEY})
    assert "something between here and there" in (caught.value.hint or "")
    assert all("X-Octopus-ApiKey" not in request.headers for request in server.requests)


async def test_what_a_proxy_cannot_reach_is_not_the_proxy_s_refusal(tunnel: Any) -> None:
    async with tunnel(b"502 No way", []) as port, sending(proxy=ProxyUrl("127.0.0.1", port)) as client:
        with pytest.raises(
            ConnectionFailed,
            match=r"^The proxy http://127\.0\.0\.1:\d+ could not connect to https://octopus\.test: 502 No way\.$",
        ):
            await client.send("GET", URL("https://octopus.test/api"), {})
