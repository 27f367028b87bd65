"""An OIDC token in exchange for an access token: where, with what, and what is said when the server declines."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from tentacle.octopus.client import OctopusClient
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.errors import AccessRefused, OctopusError, UnexpectedAnswer
from tentacle.octopus.json_document import JsonDocument
from tentacle.octopus.oidc import WELL_KNOWN_ENDPOINT, endpoint_of
from tentacle.octopus.registration import RegistrationRequest, WorkerRole, register
from tentacle.octopus.resources import PollingEndpoint

TOKEN = "eyJ0aGUi.OiJvaWRj.dG9rZW4"
ACCESS = "access-token-of-an-hour"
ACCOUNT = "3f1c1d1e-0d5b-4c1c-8d5e-aaaaaaaaaaaa"
OIDC = Credentials(oidc_token=TOKEN, service_account=ACCOUNT)
WORKER = RegistrationRequest("w", PollingEndpoint("A" * 40, "poll://abc/"), WorkerRole(("Linux",)))


def exchanging(
    *, endpoint: str | None = None, path: str = "/api/token/v1", answer: Any = None, status: int = 200, busy: int = 0
) -> Any:
    """A server that has the exchange at `path`, shows `endpoint` where it is discovered, and is `busy` at first."""
    left = [busy]

    async def intercept(request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith("/.well-known/openid-configuration"):
            if endpoint is None:
                return web.Response(status=404, text="<html>no such page", content_type="text/html")
            return web.json_response({"issuer": "x", "token_endpoint": endpoint})
        if request.path != path or request.method != "POST":
            return None
        if left[0]:
            left[0] -= 1
            return web.Response(status=429)
        return web.json_response(
            {"access_token": ACCESS, "token_type": "Bearer"} if answer is None else answer, status=status
        )

    return intercept


@pytest.mark.parametrize(
    "habits",
    [
        pytest.param({}, id="not discovered"),
        pytest.param({"endpoint": "https://octopus.example.com/token/v1", "path": "/token/v1"}, id="as others see it"),
        pytest.param({"endpoint": "/token/v1", "path": "/token/v1"}, id="a path"),
        pytest.param({"endpoint": "nonsense"}, id="nonsense"),
        pytest.param({"busy": 2}, id="busy"),
    ],
)
async def test_the_access_token_does_the_rest(habits: dict[str, Any], octopus: Any, connect: Any) -> None:
    server = await octopus(intercept=exchanging(**habits), bearer=ACCESS)
    async with connect(server, credentials=OIDC) as client:
        assert (await register(client, WORKER)).created
    *_, exchange, create = server.writes
    assert exchange.path == habits.get("path", "/api/token/v1")
    assert exchange.body == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": ACCOUNT,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": TOKEN,
    }
    assert "Authorization" not in exchange.headers
    assert create.headers["Authorization"] == f"Bearer {ACCESS}"


@pytest.mark.parametrize(
    ("status", "answer", "kind", "said"),
    [
        (
            400,
            {"error": "invalid_request", "error_description": f"No match for {TOKEN}"},
            AccessRefused,
            "No match for ****",
        ),
        (401, {"ErrorMessage": "who?"}, AccessRefused, "does not accept the OIDC token: who?"),
        (404, {"ErrorMessage": "what?"}, OctopusError, "found nothing at /api/token/v1"),
        (200, {"token": "x"}, UnexpectedAnswer, "has no 'access_token'"),
        (200, {"access_token": "two\nlines"}, UnexpectedAnswer, "cannot be sent"),
        (200, ["x"], UnexpectedAnswer, "a list instead of an object"),
    ],
)
async def test_a_server_that_declines(
    status: int, answer: Any, kind: type[OctopusError], said: str, octopus: Any, connect: Any
) -> None:
    server = await octopus(intercept=exchanging(status=status, answer=answer))
    with pytest.raises(kind) as caught:
        async with connect(server, credentials=OIDC):
            pass
    assert said in str(caught.value)
    assert TOKEN not in f"{caught.value} {caught.value.hint}"
    if isinstance(caught.value, AccessRefused):
        assert "issuer, subject and audience" in (caught.value.hint or "")


async def test_a_server_that_repeats_the_access_token(octopus: Any, connect: Any) -> None:
    server = await octopus(intercept=exchanging())

    async def telling(request: web.Request) -> web.StreamResponse | None:
        if request.path == "/api/users/me":
            return web.json_response({"ErrorMessage": f"{ACCESS} may not"}, status=403)
        answer: web.StreamResponse | None = await exchanging()(request)
        return answer

    server.intercept = telling
    client: OctopusClient
    async with connect(server, credentials=OIDC) as client:
        with pytest.raises(AccessRefused) as caught:
            await register(client, WORKER)
    assert str(caught.value) == "***** may not"


@given(st.none() | st.text())
def test_any_endpoint_is_a_path_on_the_same_host(text: str | None) -> None:
    found = endpoint_of(JsonDocument({"token_endpoint": text}, ""))
    assert found == WELL_KNOWN_ENDPOINT or (found.startswith("/") and found != "/")
