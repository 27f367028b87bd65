"""The log of a script as server-sent events (docs/spec/https.md, "Logs of scripts")."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v2 import CancelScriptCommandV2, CompleteScriptCommandV2, StartScriptCommandV2
from tentacle.services.errors import ShuttingDown
from tentacle.services.http import event_stream
from tests.patience import PATIENCE
from tests.services.https_wire import HttpsWire

Event = tuple[int, str, Any]


async def start(https: HttpsWire, body: str, ticket: str = "T") -> None:
    await https.bench.call("IScriptServiceV2", "StartScript", StartScriptCommandV2(ScriptTicket(ticket), body))


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name and not line.startswith(b":"):
            fields[name] = value
        elif fields:
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])
            fields = {}


async def all_events(https: HttpsWire, ticket: str = "T", after: int | None = None) -> list[Event]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    async with asyncio.timeout(PATIENCE), https.session.get(f"/scripts/{ticket}/log", headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        return [event async for event in events(response)]


async def test_a_log_is_followed_to_its_end_and_read_again_later(https: HttpsWire, tmp_path: Path) -> None:
    go = tmp_path / "go"
    await start(https, f"echo first; until test -e {go}; do sleep 0.02; done; echo 'sec\u00f6nd' >&2; exit 7")
    seen: list[Event] = []
    async with asyncio.timeout(PATIENCE), https.session.get("/scripts/T/log") as response:
        async for event in events(response):
            seen.append(event)
            if event[2].get("Text") == "first":
                go.touch()
    *logs, end = seen
    assert [number for number, _, _ in seen] == list(range(1, len(seen) + 1))
    assert {kind for _, kind, _ in logs} == {"log"}
    assert end[1:] == ("end", {"ExitCode": 7})
    said = [(one["Source"], one["Text"]) for _, _, one in logs]
    assert ("StdOut", "first") in said
    assert ("StdErr", "secönd") in said
    assert all(set(one) == {"Source", "Occurred", "Text"} and one["Occurred"].endswith("Z") for _, _, one in logs)
    assert await all_events(https) == seen
    assert await all_events(https, "t") == seen
    for after in (0, 2, len(logs)):
        assert await all_events(https, after=after) == seen[after:]


async def test_a_reader_that_comes_behind_the_end_gets_the_end(https: HttpsWire) -> None:
    await start(https, "true")
    *logs, end = await all_events(https)
    assert await all_events(https, after=end[0]) == [(end[0] + 1, "end", {"ExitCode": 0})]
    assert logs


async def test_a_long_log(https: HttpsWire) -> None:
    await start(https, "seq 30000")
    seen = await all_events(https)
    assert [int(one["Text"]) for _, kind, one in seen if kind == "log" and one["Text"].isdigit()] == list(
        range(1, 30001)
    )
    assert [number for number, _, _ in seen] == list(range(1, len(seen) + 1))


@pytest.mark.parametrize("ticket", ["nowhere", "..", "%2e%2e%2fx", "%00", "%ff", "x" * 300])
async def test_an_unknown_ticket(https: HttpsWire, ticket: str) -> None:
    async with https.session.get(URL(f"/scripts/{ticket}/log", encoded=True)) as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")


@pytest.mark.parametrize("after", ["", "x", "-1", "1.5", "9" * 19, "١"])
async def test_what_is_no_number_of_an_entry(https: HttpsWire, after: str) -> None:
    await start(https, "true")
    async with https.session.get("/scripts/T/log", headers={"Last-Event-ID": after}) as response:
        assert response.status == 400


async def test_a_script_that_is_completed_while_it_is_followed_ends(https: HttpsWire) -> None:
    await start(https, "echo runs; sleep 60")
    ticket, end = ScriptTicket("T"), None
    async with asyncio.timeout(PATIENCE), https.session.get("/scripts/T/log") as response:
        async for event in events(response):
            end = event
            if event[2].get("Text") == "runs":
                await https.bench.call("IScriptServiceV2", "CancelScript", CancelScriptCommandV2(ticket, 0))
                await https.bench.call("IScriptServiceV2", "CompleteScript", CompleteScriptCommandV2(ticket))
    assert end is not None
    assert end[1:] == ("end", {"ExitCode": -1})
    async with https.session.get("/scripts/T/log") as response:
        assert response.status == 404


async def test_an_agent_that_ends_ends_the_stream_without_the_end(https: HttpsWire) -> None:
    await start(https, "echo one; sleep 60")
    async with asyncio.timeout(PATIENCE), https.session.get("/scripts/T/log") as response:
        seen = []
        async for event in events(response):
            seen.append(event[1])
            if event[2].get("Text") == "one":
                await https.bench.engine.drain(ShuttingDown(), 0)
                for run in https.bench.engine.unended():
                    await run.detach()
    assert set(seen) == {"log"}
    await https.bench.engine.aclose()
    for pid in https.bench.alive():
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        while https.bench.alive():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_quiet_stream_says_that_it_is_alive(https: HttpsWire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "_QUIET_SECONDS", 0.1)
    await start(https, "sleep 60")
    async with asyncio.timeout(PATIENCE), https.session.get("/scripts/T/log") as response:
        comments = 0
        async for line in response.content:
            comments += line == b":\n"
            if comments == 2:
                break


async def test_there_are_so_many_readers_and_a_place_is_free_again_when_one_goes(
    https: HttpsWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(https, "sleep 60")
    monkeypatch.setattr(event_stream, "_QUIET_SECONDS", 0.05)
    monkeypatch.setattr(event_stream, "_MOST_OF_ONE", 2)
    monkeypatch.setattr(event_stream, "MOST_OPEN", 3)
    open_ones = [await https.session.get("/scripts/T/log") for _ in range(2)]
    async with https.session.get("/scripts/T/log") as refused:
        assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
    async with (
        https.another_client("operator") as session,
        session.get("/scripts/T/log") as response,
        session.get("/scripts/T/log") as refused,
    ):
        assert (response.status, refused.status) == (200, 503)
    open_ones[0].close()
    async with asyncio.timeout(PATIENCE):
        while True:
            async with https.session.get("/scripts/T/log") as response:
                if response.status == 200:
                    break
            await asyncio.sleep(0.05)
    open_ones[1].close()


async def test_the_head_alone(https: HttpsWire) -> None:
    await start(https, "sleep 60")
    async with https.session.head("/scripts/T/log") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
