"""A pinned certificate, names that lead nowhere, servers that fail, and changes that are only rehearsed."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tentacle.octopus.certificates import parse_pin
from tentacle.octopus.connectivity import ConnectivityCheck
from tentacle.octopus.errors import (
    CertificateRefused,
    InvalidAddress,
    NameUnresolved,
    OctopusError,
    ProxyRefused,
    ServerFailed,
)
from tentacle.octopus.proxies import ProxyUrl

HEX = "0123456789abcdefABCDEF"


@given(st.text(HEX, min_size=40, max_size=40) | st.text(HEX, min_size=64, max_size=64), st.sampled_from(["", ":", " "]))
def test_a_thumbprint_may_be_written_as_tools_write_it(digits: str, between: str) -> None:
    written = between.join(digits[i : i + 2] for i in range(0, len(digits), 2))
    assert parse_pin(f" {written}\n") == digits.upper()


@given(st.text(max_size=200))
def test_what_is_no_thumbprint_is_refused_in_one_line(text: str) -> None:
    try:
        assert len(parse_pin(text)) in {40, 64}
    except InvalidAddress as error:
        assert len(error.message) < 300


def pins(certificate: tuple[Path, str]) -> list[str]:
    der = ssl.PEM_cert_to_DER_cert(certificate[0].read_text().partition("-----BEGIN PRIVATE")[0])
    return [hashlib.sha1(der).hexdigest(), hashlib.sha256(der).hexdigest().upper()]


async def test_the_pinned_certificate_is_accepted_whoever_signed_it(
    octopus: Any, connect: Any, server_tls: ssl.SSLContext, certificate: tuple[Path, str]
) -> None:
    server = await octopus(tls=server_tls)
    for pin in pins(certificate):
        async with connect(server, pin=pin) as client:
            assert (await client.root()).text("ApiVersion") == "3.0.0"


async def test_another_certificate_gets_no_key(octopus: Any, connect: Any, server_tls: ssl.SSLContext) -> None:
    server = await octopus(tls=server_tls)
    for pin in ("A" * 40, "B" * 64):
        with pytest.raises(CertificateRefused) as caught:
            async with connect(server, pin=pin):
                pass
        assert f"its thumbprint is not {pin}" in caught.value.message
        assert "CN=Octopus of the test" in caught.value.message
        assert caught.value.hint is not None
        assert "answers for it" in caught.value.hint
        assert "ignoreSslErrors" not in caught.value.hint
    assert not [recorded for recorded in server.requests if "X-Octopus-ApiKey" in recorded.headers]


async def test_a_pin_through_a_proxy(
    octopus: Any, connect: Any, server_tls: ssl.SSLContext, certificate: tuple[Path, str], tunnel: Any
) -> None:
    server = await octopus(tls=server_tls)
    async with tunnel(b"200 OK", []) as port:
        proxy = ProxyUrl("127.0.0.1", port)
        async with connect(server, pin=pins(certificate)[0], proxy=proxy) as client:
            assert await client.root()
        with pytest.raises(CertificateRefused):
            async with connect(server, pin="A" * 40, proxy=proxy):
                pass


def test_there_is_nothing_to_pin_without_tls(connect: Any) -> None:
    with pytest.raises(InvalidAddress, match="shows no certificate"):
        connect("http://octopus", pin="A" * 40)


async def test_a_name_that_leads_nowhere_is_told_soon(connect: Any) -> None:
    notices: list[str] = []
    with pytest.raises(NameUnresolved) as caught:
        async with connect("http://octopus.invalid", on_notice=notices.append):
            pass
    assert caught.value.message.startswith("The name 'octopus.invalid' of the Octopus Server cannot be resolved: ")
    assert len(notices) == 2
    assert all("cannot be resolved" in notice and "Trying again in" in notice for notice in notices)
    with pytest.raises(NameUnresolved, match=r"The name 'proxy\.invalid' of the proxy cannot be resolved"):
        async with connect("http://127.0.0.1:1", proxy=ProxyUrl("proxy.invalid", 3128)):
            pass


async def test_a_port_that_nobody_listens_on_is_tried_for_a_while(connect: Any) -> None:
    notices: list[str] = []
    with pytest.raises(OctopusError, match="Connection refused"):
        async with connect("http://127.0.0.1:1", on_notice=notices.append, clock=lambda: 0.0):
            pass
    assert len(notices) == 10
    assert notices[0].endswith("Trying again in 0.5 s.")


async def test_a_creation_that_failed_after_it_was_done_is_not_repeated(octopus: Any, connect: Any) -> None:
    """500 from something in front of the server that had passed the request on."""
    answered = [500]

    async def breaking(request: web.Request) -> web.StreamResponse | None:
        if request.method == "POST" and answered:
            server.collections["workers"].append({"Id": "Workers-9", "Name": "w"})
            return web.Response(status=answered.pop())
        return None

    server = await octopus(intercept=breaking)
    async with connect(server) as client:

        async def already() -> Any:
            return await client.find("/api/Spaces-1/workers", lambda item: item.text("Name") == "w")

        made = await client.create("/api/Spaces-1/workers", {"Name": "w"}, already=already)
        assert made.text("Id") == "Workers-9"
    assert len(server.writes) == 1


async def test_a_server_that_fails_for_good_is_not_waited_for(octopus: Any, connect: Any) -> None:
    async def failing(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=521) if request.path == "/x" else None

    server = await octopus(intercept=failing)
    async with connect(server) as client:
        with pytest.raises(ServerFailed):
            await client.get("/x")
    assert server.gets.count("/x") == 3


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
