"""Pauses grow, obey the server, and end."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from tentacle.octopus.errors import ConnectionFailed, NameUnresolved, OctopusError, ServerFailed
from tentacle.octopus.http_client import HttpResponse
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
