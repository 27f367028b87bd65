"""The client against servers that are busy, foreign, broken or hostile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from tentacle.octopus.client import Credentials
from tentacle.octopus.connectivity import ConnectivityCheck
from tentacle.octopus.errors import (
    AccessRefused,
    ConnectionFailed,
    NotAnOctopusServer,
    NotFound,
    OctopusError,
    ProxyRefused,
    RedirectRefused,
    ServerFailed,
    UnexpectedAnswer,
)
from tentacle.octopus.proxies import ProxyUrl
from tests.octopus.answers import answering, clean, text
from tests.sockets import talking

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


@pytest.mark.parametrize("version", ["3.0.0", "3.0.99", "3.0"])
async def test_interface_versions_that_are_spoken(version: str, octopus: Any, connect: Any) -> None:
    async with connect(await octopus(api_version=version)) as client:
        assert (await client.root()).text("ApiVersion") == version


# Pages.


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


# Proxies.


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
