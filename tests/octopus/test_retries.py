"""Which failures are tried again, and for how long: pauses grow, obey the server, and end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from tentacle.octopus.errors import ConnectionFailed, NameUnresolved, OctopusError, ServerFailed
from tentacle.octopus.http_client import HttpResponse
from tentacle.octopus.proxies import ProxyUrl
from tentacle.octopus.retries import FailedAttempt, Retries, retry_after


@given(st.floats(0, 1000), st.lists(st.none() | st.floats(0, 100), max_size=50), st.lists(st.floats(0, 30)))
def test_attempts_and_pauses_stay_within_the_total(total: float, asked: list[float | None], took: list[float]) -> None:
    now = 0.0
    retries = Retries(total, lambda: now)
    waited = 0.0
    for number, wish in enumerate(asked):
        now += took[number] if number < len(took) else 0.0
        pause = retries.pause(wish)
        if pause is None:
            break
        assert pause >= max(0.5, wish or 0.0)
        waited += pause
        now += pause
        assert now <= total + 1e-6
    assert waited <= total + 1e-6


def test_a_clock_that_stands_still_ends_too() -> None:
    retries = Retries(60.0, lambda: 0.0)
    pauses = []
    while (pause := retries.pause()) is not None:
        pauses.append(pause)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]
    assert retries.attempts == 11


@pytest.mark.parametrize(
    ("error", "status", "attempts"),
    [
        (ConnectionFailed("No."), None, 6),
        (NameUnresolved("No."), None, 3),
        *((ServerFailed("No."), status, 6) for status in (408, 429, 502, 503, 504)),
        *((ServerFailed("No."), status, 3) for status in (500, 520, 530)),
        *((ServerFailed("No."), status, 1) for status in (400, 401, 404, 409, 501, 531)),
    ],
)
def test_how_often_each_failure_is_tried(error: OctopusError, status: int | None, attempts: int) -> None:
    response = None if status is None else HttpResponse(status, URL("http://h/"), {}, b"")
    retries = Retries(20.0, lambda: 0.0)
    while retries.pause_after(FailedAttempt(error, response)) is not None:
        pass
    assert retries.attempts == attempts


def asked(**headers: str) -> float | None:
    names = CIMultiDict({name.replace("_", "-").lower(): value for name, value in headers.items()})
    return retry_after(HttpResponse(503, URL("http://h/"), names, b""))


def test_what_the_server_asks_for() -> None:
    date = "Mon, 23 Nov 2026 10:00:00 GMT"
    assert asked(retry_after=" 7 ") == 7.0
    assert asked(retry_after="Mon, 23 Nov 2026 10:00:05 GMT", date=date) == 5.0
    assert asked(retry_after="Mon, 23 Nov 2026 09:00:05 GMT", date=date) == 0.0
    assert asked(retry_after="Mon, 23 Nov 2026 10:00:05", date=date) == 5.0
    ours = datetime(2026, 11, 23, 9, 59, 58, tzinfo=UTC)
    lost = HttpResponse(429, URL("http://h/"), {"retry-after": "Mon, 23 Nov 2026 10:00:05 GMT", "date": "?"}, b"")
    assert retry_after(lost, ours) == 7.0
    assert asked(retry_after="-1") is None
    assert asked() is None


@given(st.text(), st.text())
def test_any_header_is_survived(value: str, date: str) -> None:
    result = asked(retry_after=value, date=date)
    assert result is None or result >= 0


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
