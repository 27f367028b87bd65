"""What an answer of the server means: whose words are shown, which error it is, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tentacle.octopus.errors import (
    AccessRefused,
    NotFound,
    OctopusError,
    ProxyRefused,
    ServerFailed,
    UnexpectedAnswer,
    ValidationFailed,
)
from tentacle.octopus.http_client import HttpResponse
from tentacle.octopus.registration import RegistrationRequest, WorkerRole, register
from tentacle.octopus.resources import PollingEndpoint
from tentacle.octopus.responses import failure, json_value, succeeded
from tests.octopus.answers import KEY, answering, clean, text
from tests.octopus.conftest import THUMBPRINT

LINUX = RegistrationRequest("w", PollingEndpoint(THUMBPRINT, "poll://abc/"), WorkerRole(("linux",)), idempotent=True)


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


def page(status: int, **headers: str) -> Callable[[web.Request], Any]:
    """Something in front of the server answers changes in its place, for people."""
    names = {name.replace("_", "-"): value for name, value in {"Server": "squid/5.7", **headers}.items()}

    async def answer(request: web.Request) -> web.StreamResponse | None:
        if request.method == "GET":
            return None
        return web.Response(status=status, text="<html><h1>Denied", content_type="text/html", headers=names)

    return answer


@pytest.mark.parametrize(
    ("status", "kind", "hint", "posts"),
    [
        (400, ValidationFailed, "check the address and its scheme", 1),
        (401, AccessRefused, "has to let these requests pass", 1),
        (403, AccessRefused, "has to let these requests pass", 1),
        (404, NotFound, None, 1),
        (405, ServerFailed, "its log may say more", 1),
        (500, ServerFailed, "its log may say more", 3),
        (502, ServerFailed, "Try again later", 3),
    ],
)
async def test_a_page_of_something_in_between(
    status: int, kind: type[OctopusError], hint: str | None, posts: int, octopus: Any, connect: Any
) -> None:
    server = await octopus(intercept=page(status))
    async with connect(server, retry_for=2.0) as client:
        with pytest.raises(kind) as caught:
            await register(client, LINUX)
    said = f"/api/Spaces-1/workers was answered with HTTP status {status} by 'squid/5.7' instead of an Octopus Server."
    assert caught.value.message == said
    assert (hint or "") in (caught.value.hint or "")
    assert len(server.writes) == posts
    assert not server.collections["workers"]


async def test_a_change_that_is_led_elsewhere_is_not_taken_for_done(octopus: Any, connect: Any) -> None:
    server = await octopus(intercept=page(302, Location="/login?back=/api/Spaces-1/workers"))
    async with connect(server) as client:
        with pytest.raises(UnexpectedAnswer, match=r"status 302 by 'squid/5\.7'") as caught:
            await register(client, LINUX)
    assert "perhaps to sign in there" in (caught.value.hint or "")
    assert len(server.requests) == len(server.gets) + 1


@pytest.mark.parametrize(
    ("headers", "hint"),
    [
        ({"Retry-After": "120"}, "It asks to be left alone for 120 seconds."),
        ({"Retry-After": "Mon, 23 Nov 2026 10:02:00 GMT", "Date": "Mon, 23 Nov 2026 10:00:00 GMT"}, "for 120 seconds."),
    ],
)
async def test_who_asks_for_more_patience_than_there_is_is_quoted(
    headers: dict[str, str], hint: str, octopus: Any, connect: Any
) -> None:
    async def busy(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=429, headers=headers) if request.path.endswith("/me") else None

    server = await octopus(intercept=busy)
    async with connect(server) as client:
        with pytest.raises(ServerFailed, match=r"is asked too often \(status 429\)") as caught:
            await register(client, LINUX)
    assert (caught.value.hint or "").endswith(hint)
    assert server.gets.count("/api/users/me") == 1


# The meaning alone, of any answer.

ADDRESS = URL("http://octopus/api/x")
STATUSES = st.integers(300, 599)
HEADERS = st.dictionaries(st.sampled_from(["server", "retry-after", "proxy-authenticate", "location"]), st.text())
BODIES = st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["ErrorMessage", "Errors", "error_description"]), inner, max_size=3)
    ),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())


def response(status: int, body: bytes | str = b"", **headers: str) -> HttpResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, ADDRESS, named, body.encode() if isinstance(body, str) else body)


def failed(status: int, body: bytes | str = b"", **headers: str) -> OctopusError:
    return failure(response(status, body, **headers), lambda text: text.replace(KEY, "*****"))


@given(STATUSES, HEADERS, BODIES)
def test_any_answer_that_is_no_success_is_an_error_of_one_line(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    error = failure(HttpResponse(status, ADDRESS, headers, body), str)
    assert error.message.isprintable()
    assert 0 < len(error.message) < 1500
    assert error.exit_code in (1, 100)


@given(STATUSES, st.text(max_size=10), st.text(max_size=10))
def test_no_error_shows_what_is_to_be_hidden(status: int, before: str, after: str) -> None:
    said = json.dumps({"ErrorMessage": before + KEY + after, "Errors": [KEY + before]})
    for body in (said, f"<html>{KEY}"):
        error = failed(status, body, server=f"{KEY}/1")
        assert KEY not in f"{error} {error.hint} {error!r}"


@pytest.mark.parametrize(("status", "fine"), [(199, False), (200, True), (204, True), (299, True), (300, False)])
def test_what_counts_as_success(status: int, fine: bool) -> None:
    assert succeeded(response(status)) is fine


def test_the_json_of_a_success_is_its_value() -> None:
    assert json_value(response(200, '{"Id": [1, null]}')) == {"Id": [1, None]}
    with pytest.raises(UnexpectedAnswer, match=r"^The answer of the Octopus Server to /api/x is not JSON\.$"):
        json_value(response(200, "<html>"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"ErrorMessage": " No. ", "Errors": ["One.", 2, "Two."]}, "No. - One. - Two."),
        ({"ErrorMessage": "", "Errors": ["One."]}, "- One."),
        ({"error": "invalid_grant", "error_description": "The token has expired."}, "The token has expired."),
        ({"ErrorMessage": "x" * 2000}, "x" * 1000),
        ({}, "The Octopus Server refused the request (400)."),
        (["No."], "The Octopus Server refused the request (400)."),
        ("No.", "The Octopus Server refused the request (400)."),
    ],
)
def test_the_server_s_own_words_come_first(body: object, said: str) -> None:
    assert failed(400, json.dumps(body)).message == said


@pytest.mark.parametrize(
    ("status", "said", "hint"),
    [
        (401, "The Octopus Server does not accept these credentials.", "may have been revoked or have expired"),
        (403, "The Octopus Server does not permit this.", "Ask an administrator"),
        (404, "The Octopus Server found nothing at /api/x.", ""),
        (418, "The Octopus Server failed with status 418.", "The server's own log may say more."),
        (429, "The Octopus Server is asked too often (status 429).", "Try again later."),
        (500, "The Octopus Server failed with status 500.", "The server's own log may say more."),
        (503, "The Octopus Server failed with status 503.", "Try again later."),
    ],
)
def test_an_answer_without_words_has_ours(status: int, said: str, hint: str) -> None:
    error = failed(status)
    assert error.message == said
    assert hint in (error.hint or "")
    if isinstance(error, AccessRefused):
        assert error.status == status


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_names_its_time_is_quoted(status: int) -> None:
    assert failed(status, retry_after="90").hint == "It asks to be left alone for 90 seconds."
    between = failed(status, " <html>", retry_after="90")
    assert (between.hint or "").endswith(" in its place. It asks to be left alone for 90 seconds.")


def test_a_page_of_nobody_is_told_as_one() -> None:
    error = failed(502, "\n <html>")
    assert error.message == "/api/x was answered with HTTP status 502 by something else instead of an Octopus Server."
    long = failed(502, "<", server="s" * 100 + "\x1b")
    assert f"by '{'s' * 60}' instead" in long.message


def test_a_proxy_that_wants_to_know_us_is_none_of_the_server_s_errors() -> None:
    error = failed(407, json.dumps({"ErrorMessage": "hidden"}), proxy_authenticate="NTLM")
    assert isinstance(error, ProxyRefused)
    assert "offers NTLM" in (error.hint or "")
