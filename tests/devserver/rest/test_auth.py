"""Who gets in, and by what."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar

from tentacle.devserver.rest.answers import LOGGED_OUT
from tentacle.devserver.rest.auth import BrowserSessions, hash_secret, new_api_key, quick_hash
from tentacle.devserver.storage import ApiKey
from tests.devserver.running_server import KEY, RunningServer, running_server


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Octopus-ApiKey": "WRONG"},
        {"X-Octopus-ApiKey": ""},
        {"X-Octopus-ApiKey": KEY.lower()},
        {"Authorization": "Bearer nope"},
        {"Authorization": f"Basic {KEY}"},
        {"Cookie": "OctopusIdentificationToken_x=1"},
    ],
)
async def test_strangers_are_told_to_log_in_and_nothing_else(server: RunningServer, headers: dict[str, str]) -> None:
    for path in ("/api/users/me", "/api/Spaces-1", "/api/Spaces-1/workers/all", "/api/no/such/path", "/api/tasks"):
        async with server.client.get(server.url(path), headers=headers) as response:
            assert response.status == 401
            assert (await response.json())["ErrorMessage"] == LOGGED_OUT
    async with server.client.get(server.url("/api"), headers=headers) as response:
        assert response.status == 200


async def test_a_key_is_also_a_bearer_token(server: RunningServer) -> None:
    async with server.client.get(server.url("/api/users/me"), headers={"Authorization": f"bearer {KEY}"}) as response:
        assert (await response.json())["Id"] == "Users-1"


async def test_keys_are_made_shown_once_and_revoked(server: RunningServer) -> None:
    made = await server.post("/api/users/me/apikeys", {"Purpose": "ci"})
    assert re.fullmatch(r"(API-)([A-Z\d])+", made["ApiKey"])
    async with server.client.get(server.url("/api/users/me"), headers={"X-Octopus-ApiKey": made["ApiKey"]}) as response:
        assert response.status == 200
    listed = await server.get("/api/users/Users-1/apikeys")
    assert made["ApiKey"] not in str(listed)
    assert [k["Purpose"] for k in listed["Items"]] == ["devserver", "ci"]
    assert (await server.send("DELETE", made["Links"]["Self"])).status == 200
    async with server.client.get(server.url("/api/users/me"), headers={"X-Octopus-ApiKey": made["ApiKey"]}) as response:
        assert response.status == 401
    assert (await server.send("DELETE", listed["Items"][0]["Links"]["Self"])).status == 403


@pytest.fixture
async def browser() -> AsyncIterator[ClientSession]:
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


async def sign_in(server: RunningServer, browser: ClientSession) -> str:
    """The value of the only CSRF cookie."""
    login = {"Username": "Admin", "Password": "open sesame", "RememberMe": False, "State": {}}
    async with browser.post(server.url("/api/users/login"), json=login) as response:
        assert response.status == 200
        csrf = [c for name, c in response.cookies.items() if name.startswith("Octopus-Csrf-Token")]
        tokens = [c for name, c in response.cookies.items() if name.startswith("OctopusIdentificationToken_")]
    assert [c["httponly"] for c in tokens] == [True]
    assert [c["path"] for c in (*csrf, *tokens)] == ["/", "/"]
    return csrf[0].value


async def test_signing_in_gives_a_csrf_cookie_which_writing_needs(tmp_path: Path, browser: ClientSession) -> None:
    async with running_server(tmp_path, password="open sesame") as server:
        headers = {"X-Octopus-Csrf-Token": await sign_in(server, browser)}
        async with browser.get(server.url("/api/users/me")) as response:
            assert response.status == 200
        for given, status in (({}, 403), ({"X-Octopus-Csrf-Token": "guess"}, 403), (headers, 201)):
            made = browser.post(server.url("/api/Spaces-1/environments"), json={"Name": "e"}, headers=given)
            async with made as response:
                assert response.status == status
        async with browser.post(server.url("/api/users/logout"), headers=headers) as response:
            assert response.status == 200
        async with browser.get(server.url("/api/users/me")) as response:
            assert response.status == 401


@pytest.mark.parametrize("login", [{"Username": "admin", "Password": "wrong"}, {"Username": "x", "Password": "y"}])
async def test_a_wrong_password_is_401_and_without_one_nobody_signs_in(tmp_path: Path, login: dict[str, str]) -> None:
    async with running_server(tmp_path, password="right") as server:
        assert (await server.send("POST", "/api/users/login", json=login, headers={})).status == 401
    (tmp_path / "second").mkdir()
    async with running_server(tmp_path / "second") as server:
        assert (await server.send("POST", "/api/users/login", json=login)).status == 401
        assert (await server.send("POST", "/api/users/login", json={})).status == 400


def test_keys_are_long_and_never_the_same() -> None:
    keys = {new_api_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"API-[A-Z0-9]{32}", key) for key in keys)


def test_secrets_are_not_in_a_repr() -> None:
    sessions = BrowserSessions(lambda: 0.0)
    token, session = sessions.begin("Users-1")
    stored = hash_secret("hidden")
    shown = f"{session!r} {sessions!r} {ApiKey(stored, 'id', 'user', 'purpose', 'API-...', 'now')!r}"
    assert not any(secret in shown for secret in (token, session.csrf, stored, "hidden"))


def test_old_sessions_make_room_and_none_lasts_for_ever() -> None:
    now = 0.0
    sessions = BrowserSessions(lambda: now)
    other, _ = sessions.begin("Users-2")
    first, _ = sessions.begin("Users-1")
    for _ in range(100):
        last, _ = sessions.begin("Users-1")
    assert sessions.find(first) is None
    assert sessions.find(last) is not None
    assert sessions.find(other) is not None, "nobody ends the sessions of others"
    now = 24 * 3600.0
    assert sessions.find(last) is None


async def test_a_session_ends_with_the_key_or_the_password_that_it_began_with(
    tmp_path: Path, browser: ClientSession
) -> None:
    async with running_server(tmp_path, password="open sesame") as server:
        made = await server.post("/api/users/me/apikeys", {"Purpose": "page"})
        async with browser.post(
            server.url("/sign-in"), data={"key": made["ApiKey"]}, allow_redirects=False
        ) as response:
            assert response.status == 303
        async with browser.get(server.url("/api/users/me")) as response:
            assert response.status == 200
        await server.send("DELETE", made["Links"]["Self"])
        async with browser.get(server.url("/api/users/me")) as response:
            assert response.status == 401
        await sign_in(server, browser)
        await server.put("/api/users/Users-1", {"Password": {"HasValue": True, "NewValue": "another"}})
        async with browser.get(server.url("/api/users/me")) as response:
            assert response.status == 401
        assert (await server.send("POST", "/api/users/login", json={"Username": "ADMIN", "Password": "another"})).ok
        assert b"another" not in b"".join(p.read_bytes() for p in (tmp_path / "server").glob("server.db*"))


async def test_a_key_that_an_earlier_version_kept_gets_a_new_hash_when_it_is_used(server: RunningServer) -> None:
    store = server.up.server.store
    old = ApiKey(quick_hash("API-OLDOLD"), "apikeys-9", "Users-1", "ci", "API-OLDO...", "2026-01-01")
    await store.add_key(old)
    for _ in range(2):
        async with server.client.get(
            server.url("/api/users/me"), headers={"X-Octopus-ApiKey": "API-OLDOLD"}
        ) as response:
            assert response.status == 200
    (kept,) = await store.keys()
    assert kept.hash.startswith("scrypt-")
    assert (kept.id, kept.purpose) == (old.id, old.purpose)
