"""The client against servers that are busy, foreign, broken or hostile."""

from __future__ import annotations

import asyncio
import json
import ssl
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from tentacle.errors import TentacleError
from tentacle.octopus import http_client
from tentacle.octopus.client import Credentials
from tentacle.octopus.connectivity import ConnectivityCheck
from tentacle.octopus.errors import (
    AccessRefused,
    CertificateRefused,
    ConnectionFailed,
    InvalidAddress,
    NotAnOctopusServer,
    NotFound,
    OctopusError,
    ProxyRefused,
    RedirectRefused,
    ServerFailed,
    UnexpectedAnswer,
)
from tentacle.octopus.proxies import ProxyUrl
from tests.sockets import talking

KEY = "API-TESTKEY0123456789"


def answering(path: str, *answers: web.Response | Callable[[], web.Response]) -> Any:
    """Gives these answers at `path`, the last one for ever."""
    left = list(answers)

    async def intercept(request: web.Request) -> web.Response | None:
        if request.path != path:
            return None
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer() if callable(answer) else answer

    return intercept


def text(body: bytes | str, status: int = 200, **headers: str) -> Callable[[], web.Response]:
    content = body.encode() if isinstance(body, str) else body
    return lambda: web.Response(
        body=content, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def clean(error: TentacleError) -> None:
    said = f"{error} {error.hint} {error!r}"
    assert KEY not in said
    assert "\n" not in str(error)
    assert len(str(error)) < 2000


# What is not an Octopus Server.


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(text("<html>hello</html>"), id="a page"),
        pytest.param(text("[]"), id="a list"),
        pytest.param(text("null"), id="nothing"),
        pytest.param(text(""), id="empty"),
        pytest.param(text("{}"), id="no ApiVersion"),
        pytest.param(text('{"ApiVersion": 3}'), id="ApiVersion is a number"),
        pytest.param(text('{"ApiVersion": "2.9.0"}'), id="too old"),
        pytest.param(text('{"ApiVersion": "3.1.0"}'), id="too new"),
        pytest.param(text('{"ApiVersion": "3.0.100"}'), id="too new by little"),
        pytest.param(text('{"ApiVersion": "3..0"}'), id="no version"),
        pytest.param(text(b'{"ApiVersion": "\xff\xfe"}'), id="invalid UTF-8"),
        pytest.param(text("[" * 200_000), id="too deep"),
        pytest.param(text('{"ApiVersion": ' + "9" * 5000 + "}"), id="a long number"),
        pytest.param(text("", 404), id="404"),
        pytest.param(text("", 302, Location="/api"), id="turning in circles"),
        pytest.param(text("", 302, Location="/login"), id="a login page"),
    ],
)
async def test_what_is_not_an_octopus_server(answer: Any, octopus: Any, connect: Any) -> None:
    server = await octopus(intercept=answering("/api", answer))
    with pytest.raises((NotAnOctopusServer, NotFound)) as caught:
        async with connect(server):
            pass
    assert caught.value.exit_code == 1
    clean(caught.value)


async def test_what_does_not_speak_http(connect: Any) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()

    async with talking(talk) as port:
        with pytest.raises((NotAnOctopusServer, ConnectionFailed)) as caught:
            async with connect(f"http://127.0.0.1:{port}"):
                pass
    clean(caught.value)


@pytest.mark.parametrize("version", ["3.0.0", "3.0.99", "3.0"])
async def test_interface_versions_that_are_spoken(version: str, octopus: Any, connect: Any) -> None:
    async with connect(await octopus(api_version=version)) as client:
        assert (await client.root()).text("ApiVersion") == version


# Bounds.


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


async def test_pages_are_followed_and_end(octopus: Any, connect: Any) -> None:
    server = await octopus(page_size=1)
    async with connect(server) as client:
        found = await client.collection("/api/Spaces-1/workerpools{/id}{?skip}")
    assert [pool.text("Name") for pool in found] == ["Default Worker Pool", "Linux"]


@pytest.mark.parametrize("other", ["/api/pages", "/api/pages?skip=0"])
async def test_pages_that_lead_back(other: str, octopus: Any, connect: Any) -> None:
    page = json.dumps({"Items": [{"Id": "x"}], "Links": {"Page.Next": other}})
    server = await octopus(intercept=answering("/api/pages", text(page)))
    async with connect(server) as client:
        with pytest.raises(UnexpectedAnswer, match="never end"):
            await client.collection("/api/pages")
    assert len(server.gets) <= 3


async def test_pages_without_end(octopus: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentacle.octopus.client.MAX_PAGES", 5)
    number = 0

    def page() -> web.Response:
        nonlocal number
        number += 1
        return web.json_response({"Items": [{"Id": "x"}], "Links": {"Page.Next": f"/api/pages?skip={number}"}})

    server = await octopus(intercept=answering("/api/pages", page))
    async with connect(server) as client:
        with pytest.raises(UnexpectedAnswer, match="never end"):
            await client.collection("/api/pages")
        number = 0
        assert await client.find("/api/pages", lambda _: True), "later pages are not asked for"
    assert number == 1


async def test_an_empty_page_is_the_last(octopus: Any, connect: Any) -> None:
    page = json.dumps({"Items": [], "Links": {"Page.Next": "/api/pages?skip=9"}})
    async with connect(await octopus(intercept=answering("/api/pages", text(page)))) as client:
        assert await client.collection("/api/pages") == []


@pytest.mark.parametrize(
    "body", ['"text"', "7", '{"Items": {}}', '{"Items": ["a"]}', "[[]]", "[1]", "not json", '{"Items": "x"}']
)
async def test_collections_of_the_wrong_shape(body: str, octopus: Any, connect: Any) -> None:
    async with connect(await octopus(intercept=answering("/api/pages", text(body)))) as client:
        with pytest.raises(UnexpectedAnswer, match="/api/pages") as caught:
            await client.collection("/api/pages")
    clean(caught.value)


# Errors of the server.


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (400, "ValidationFailed", 1),
        (401, "AccessRefused", 1),
        (403, "AccessRefused", 1),
        (404, "NotFound", 1),
        (405, "ServerFailed", 100),
        (409, "ValidationFailed", 1),
        (500, "ServerFailed", 100),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(json.dumps({"ErrorMessage": f"no {KEY}\nhere", "Errors": ["a", 1, f"b {KEY}"]}), id="document"),
        pytest.param("<html>" + "x" * 100_000, id="page"),
        pytest.param('{"ErrorMessage": ["list"], "Errors": "text"}', id="shapes"),
        pytest.param("", id="nothing"),
        pytest.param(json.dumps({"ErrorMessage": "m" * 100_000}), id="long"),
    ],
)
async def test_errors_of_the_server(
    status: int, kind: str, exit_code: int, body: str, octopus: Any, connect: Any
) -> None:
    server = await octopus(intercept=answering("/api/x", text(body, status)))
    async with connect(server) as client:
        with pytest.raises(OctopusError) as caught:
            await client.get("/api/x")
    assert type(caught.value).__name__ == kind
    assert caught.value.exit_code == exit_code
    clean(caught.value)
    if KEY in body:
        assert "no ***** here - a - b *****" in str(caught.value)
    assert len(server.gets) == (4 if status == 500 else 2), "repeated only where it may help, and not often"


# Patience.


async def test_busy_is_waited_for(octopus: Any, connect: Any) -> None:
    waits: list[float] = []
    notices: list[str] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    answers = [text("", 503), text("", 429, Retry_After="7"), text("", 502), text("", 504), text('{"Id": "x"}')]
    server = await octopus(intercept=answering("/api/x", *answers))
    async with connect(server, sleep=sleep, on_notice=notices.append) as client:
        assert (await client.get("/api/x")).text("Id") == "x"
    assert waits == [0.5, 7.0, 2.0, 4.0]
    assert notices[0].startswith("The Octopus Server failed with status 503")


async def test_machines_that_wait_together_do_not_come_back_together(octopus: Any, connect: Any) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    chances = iter((1.0, 0.5))
    answers = [text("", 503, Retry_After="8"), text("", 502), text('{"Id": "x"}')]
    server = await octopus(intercept=answering("/api/x", *answers))
    async with connect(server, sleep=sleep, chance=lambda: next(chances)) as client:
        await client.get("/api/x")
    assert waits == [10.0, 1.125]


async def test_busy_for_too_long(octopus: Any, connect: Any) -> None:
    async with connect(await octopus(intercept=answering("/api/x", text("", 503, Retry_After="3600")))) as client:
        with pytest.raises(ServerFailed) as caught:
            await client.get("/api/x")
    assert caught.value.exit_code == 100


async def test_nobody_listens(connect: Any) -> None:
    async with talking(lambda *_: asyncio.sleep(0)) as port:
        pass
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with pytest.raises(ConnectionFailed, match="cannot be reached") as caught:
        async with connect(f"http://127.0.0.1:{port}", sleep=sleep):
            pass
    assert 30 < sum(waits) <= 60
    assert caught.value.exit_code == 1
    assert "refused" in str(caught.value).lower()
    clean(caught.value)


# Redirects.


async def test_a_redirect_on_the_same_server_keeps_the_key(octopus: Any, connect: Any) -> None:
    server = await octopus(intercept=answering("/api/x", text("", 301, Location="/api/users/me")))
    async with connect(server) as client:
        assert (await client.get("/api/x")).text("Id") == "Users-1"


async def test_a_redirect_to_another_server_is_not_followed(octopus: Any, connect: Any) -> None:
    other = await octopus()
    server = await octopus(intercept=answering("/api", text("", 307, Location=other.url + "/api")))
    with pytest.raises(RedirectRefused, match="credentials are not sent there") as caught:
        async with connect(server):
            pass
    assert not other.requests
    assert f"--server={other.url}" in (caught.value.hint or "")


async def test_links_to_another_server_are_not_followed(octopus: Any, connect: Any) -> None:
    other = await octopus()
    page = json.dumps({"Items": [{"Id": "x"}], "Links": {"Page.Next": other.url + "/api"}})
    async with connect(await octopus(intercept=answering("/api/pages", text(page)))) as client:
        with pytest.raises(UnexpectedAnswer, match="another host"):
            await client.collection("/api/pages")
    assert not other.requests


# Signing in.


async def test_user_name_and_password(octopus: Any, connect: Any) -> None:
    server = await octopus()
    async with connect(server, credentials=Credentials(username="me", password="right")) as client:
        await client.get("/api/users/me")
    assert server.writes[0].body == {
        "Username": "me",
        "Password": "right",
        "RememberMe": False,
        "State": {"UsingSecureConnection": False},
    }
    last = server.requests[-1].headers
    assert last["X-Octopus-Csrf-Token"] == "csrf|%2Ba="
    assert "OctopusIdentificationToken_x=sign=ed|%2F" in last["Cookie"]
    assert "X-Octopus-ApiKey" not in last


async def test_a_wrong_password(octopus: Any, connect: Any) -> None:
    with pytest.raises(AccessRefused) as caught:
        async with connect(await octopus(), credentials=Credentials(username="me", password="wr0ng!")):
            pass
    assert str(caught.value) == "no such password *****"
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("cookies", [[], ["Octopus-Csrf-Token_a=1; path=/", "Octopus-Csrf-Token_b=2; path=/"]])
async def test_sign_in_without_the_one_cookie(cookies: list[str], octopus: Any, connect: Any) -> None:
    answer = web.json_response({"Id": "Users-1"})
    for cookie in cookies:
        answer.headers.add("Set-Cookie", cookie)
    server = await octopus(intercept=answering("/api/users/login", answer))
    with pytest.raises(UnexpectedAnswer, match="Csrf"):
        async with connect(server, credentials=Credentials(username="me", password="right")):
            pass


async def test_a_bearer_token(octopus: Any, connect: Any) -> None:
    server = await octopus()
    async with connect(server, credentials=Credentials(bearer_token="tok")):
        pass
    assert server.requests[0].headers["Authorization"] == "Bearer tok"


# TLS.


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
    with pytest.raises(ConnectionFailed, match="No TLS connection") as caught:
        async with connect(server.url.replace("http://", "https://"), retry_for=0.0):
            pass
    assert "http://" in (caught.value.hint or "")


# Proxies.


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


async def test_a_rehearsal_changes_nothing(octopus: Any, connect: Any) -> None:
    told: list[tuple[str, str, Any]] = []

    def note(method: str, url: URL, body: Mapping[str, object] | None) -> None:
        told.append((method, url.path, body))

    async def nobody() -> None:
        raise AssertionError("nothing was sent that could be there already")

    server = await octopus()
    async with connect(server, rehearse=note) as client:
        await client.create("/api/Spaces-1/workers", {"Name": "w"}, already=nobody)
        await client.update("/api/Spaces-1/workers/Workers-1", {"Name": "v"})
        await client.delete("/api/Spaces-1/workers/Workers-1")
    assert told == [
        ("POST", "/api/Spaces-1/workers", {"Name": "w"}),
        ("PUT", "/api/Spaces-1/workers/Workers-1", {"Name": "v"}),
        ("DELETE", "/api/Spaces-1/workers/Workers-1", None),
    ]
    assert server.writes == []


async def test_a_proxy_that_does_not_know_us_is_asked_once(connect: Any, tunnel: Any) -> None:
    """With a wrong password, asking again locks the account."""
    seen: list[bytes] = []
    async with tunnel(b"407 Who are you", seen) as port:
        proxy = ProxyUrl("127.0.0.1", port, "me", "s3cret")
        for url in ("https://octopus.test", "http://octopus.test"):
            with pytest.raises(ProxyRefused, match="407") as caught:
                async with connect(url, proxy=proxy):
                    pass
            assert "polling-proxy" in str(caught.value.hint)
        with pytest.raises(OctopusError, match=r"other credentials.*\(tried 1 time\)") as refused:
            await ConnectivityCheck(delays=(0.0, 0.0)).run("octopus.test", 10943, proxy=proxy)
        assert "polling-proxy" in str(refused.value.hint)
    assert len(seen) == 3
