"""Requests that no client should make: each is refused in JSON, and the server goes on."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.devserver.running_server import KEY, RunningServer, running_server, worker_body
from tests.patience import PATIENCE


@pytest.mark.parametrize(
    "path",
    [
        "/api/Spaces-1/workers/Workers-999",
        "/api/Spaces-1/workers/' OR '1'='1",
        "/api/Spaces-1/workers/%00",
        "/api/Spaces-1/workers/..%2f..%2fetc%2fpasswd",
        "/api/Spaces-1/workers/%ff%fe",
        "/api/tasks/ServerTasks-999",
        "/api/tasks/ServerTasks-99999999999999999999999999",
        "/api/tasks/ServerTasks-%D9%A1",
        "/api/nothing",
        "/api/Spaces-1/workers/Workers-1/more/and/more",
        "/api/configuration/certificates/other",
        "/api/users/Users-7",
    ],
)
async def test_what_is_not_there_is_404_with_a_message(server: RunningServer, path: str) -> None:
    response = await server.send("GET", path)
    assert response.status == 404
    assert (await response.json())["ErrorMessage"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe\x00",
        b'{"Name": "\\ud800"}',
        b'{"Name": NaN}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"Name": ' + b"9" * 10_000 + b"}",
    ],
)
async def test_what_is_no_json_document_is_400(server: RunningServer, body: bytes) -> None:
    for path in ("/api/Spaces-1/workers", "/api/tasks", "/api/Spaces-1/environments", "/api/users/me/apikeys"):
        response = await server.send("POST", path, data=body)
        assert response.status == 400, body[:20]
        assert (await response.json())["ErrorMessage"]


async def test_a_huge_body_is_refused(server: RunningServer) -> None:
    huge = json.dumps({"Name": "x" * (5 * 2**20)}).encode()
    response = await server.send("POST", "/api/Spaces-1/environments", data=io.BytesIO(huge))
    assert response.status == 413
    assert "must not be larger" in (await response.json())["ErrorMessage"]
    assert len(await server.get("/api/Spaces-1/environments/all")) == 1


HALF_BODIES = tuple(
    f"POST {path} HTTP/1.1\r\nHost: a\r\nX-Octopus-ApiKey: {KEY}\r\nContent-Length: 100\r\n\r\nhalf".encode()
    for path in ("/api/tasks", "/sign-in")
)


@pytest.mark.parametrize("sent", [b"", b"GET /api HTTP/1.1\r\nHost: ", b"POST /api/tasks HTTP/1.1\r\n", *HALF_BODIES])
async def test_a_request_that_stops_coming_is_closed(
    sent: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentacle.devserver.main.IDLE", 0.2)
    monkeypatch.setattr("tentacle.devserver.rest.routing.PATIENCE", 0.2)
    async with running_server(tmp_path) as server:
        address = urlsplit(server.up.rest)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            # After the refusal, aiohttp goes on reading for a while.
            answer = await (reader.readline() if sent in HALF_BODIES else reader.read())
        writer.close()
        await writer.wait_closed()
    assert answer.split(b" ")[1:2] == ([b"408"] if sent in HALF_BODIES else [])


@pytest.mark.parametrize(
    "name",
    ["Robert'); DROP TABLE resource;--", '"; DELETE FROM task; --', "%_'", "名前", "a\nb", "<script>alert(1)</script>"],
)
async def test_names_are_only_names(server: RunningServer, name: str) -> None:
    made = await server.worker(name)
    assert made["Name"] == name
    response = await server.client.get(
        server.url("/api/Spaces-1/workers"), params={"name": name}, headers=server.headers
    )
    assert [w["Name"] for w in (await response.json())["Items"]] == [name]
    assert len(await server.get("/api/Spaces-1/workerpools/all")) == 1


@pytest.mark.parametrize("query", ["skip=-1", "take=x", "skip=99999999999", "take=1e3", "skip=%D9%A1"])
async def test_pages_are_numbers(server: RunningServer, query: str) -> None:
    assert (await server.send("GET", f"/api/Spaces-1/workers?{query}")).status == 400


@pytest.mark.parametrize("method", ["PATCH", "PROPFIND"])
async def test_unknown_methods_are_405(server: RunningServer, method: str) -> None:
    response = await server.send(method, "/api/Spaces-1/workers")
    assert response.status == 405


async def test_wrong_methods_are_405(server: RunningServer) -> None:
    assert (await server.send("DELETE", "/api/Spaces-1/workers")).status == 405
    assert (
        await server.send("POST", "/api/Spaces-1/workers", headers={"X-HTTP-Method-Override": "TRACE"})
    ).status == 405


async def test_only_a_post_is_overridden(server: RunningServer) -> None:
    made = await server.worker("w")
    response = await server.send("GET", made["Links"]["Self"], headers={"X-HTTP-Method-Override": "DELETE"})
    assert response.status == 200
    overridden = await server.send("POST", made["Links"]["Self"], headers={"x-http-method-override": "delete"})
    assert overridden.status == 200
    assert await server.get("/api/Spaces-1/workers/all") == []


async def test_a_document_in_a_document_in_a_document_is_kept_within_bounds(server: RunningServer) -> None:
    deep: object = "x"
    for _ in range(200):
        deep = {"a": deep}
    response = await server.send("POST", "/api/Spaces-1/tenants", json={"Name": "t", "ProjectEnvironments": deep})
    assert response.status == 400
    assert (await server.send("GET", "/api/Spaces-1/tenants")).status == 200


async def test_answers_do_not_let_a_browser_guess(server: RunningServer) -> None:
    response = await server.send("GET", "/api")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "aiohttp" not in response.headers["Server"]


async def test_the_database_and_the_key_are_private(server: RunningServer, tmp_path: Path) -> None:
    await server.post("/api/Spaces-1/workers", worker_body())
    data = tmp_path / "server"
    assert {p.name: oct(p.stat().st_mode & 0o077) for p in data.glob("server.db*")}.keys() >= {"server.db"}
    assert all(p.stat().st_mode & 0o077 == 0 for p in data.glob("server.db*"))
    assert b"API-TESTKEY" not in b"".join(p.read_bytes() for p in data.glob("server.db*"))


async def test_a_database_that_has_no_room_says_so(server: RunningServer) -> None:
    await server.up.server.store._database.execute("PRAGMA max_page_count = 1")
    for number in range(1000):
        answer = await server.send("POST", "/api/workerpools", json={"Name": f"{number} {'x' * 190}"})
        if answer.status != 201:
            break
    assert answer.status == 500
    assert (await answer.json())["ErrorMessage"] == "The server's database failed: database or disk is full."
