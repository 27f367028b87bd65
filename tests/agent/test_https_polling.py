"""A real agent that polls by HTTPS, and a server of another make: what is asked for is done once, whoever ends when."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tentacle.home_layout import POLLED_CALLS, WORK
from tests.agent.process import AgentHome, Server
from tests.patience import PATIENCE
from tests.polled_server import NAME, PolledServer, polled_server


@pytest.fixture
async def polled(tmp_path: Path) -> AsyncIterator[PolledServer]:
    async with polled_server(tmp_path) as server:
        yield server


async def polling(agent: AgentHome, polled: PolledServer, connections: int = 1) -> None:
    agent.poll(polled.port, https=True)
    agent.set(polling_connection_count=connections)
    await (await agent.start()).until("expecting thumbprint")


async def test_a_script_and_its_log_and_a_stop_in_time(agent: AgentHome, polled: PolledServer) -> None:
    await polling(agent, polled)
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    command = {
        "ScriptTicket": {"TaskId": "T"},
        "ScriptBody": "echo $TRACEPARENT; exit 4",
        "DurationToWaitForScriptToFinish": "00:00:30",
    }
    started = (await polled.call("IScriptServiceV2.StartScript", command, traceparent=trace))["result"]
    assert (started["State"], started["ExitCode"]) == ("Complete", 4)
    assert trace in [entry["Text"] for entry in started["Logs"]]
    assert (await polled.call("IScriptServiceV2.CompleteScript", {"Ticket": {"TaskId": "T"}}))["result"] is None
    assert polled.polls[0] == {"max": 1, "holding": []}
    await agent.agents[-1].stop()


async def test_several_at_once(agent: AgentHome, polled: PolledServer) -> None:
    await polling(agent, polled, connections=3)
    gate = agent.directory / "gate"
    body = f"until test -e {gate}; do sleep 0.02; done"
    waiting = [asyncio.create_task(polled.start_script(body, ticket, "00:01:00")) for ticket in ("A", "B")]
    await polled.until(lambda: len(set(polled.handed_out)) == 2)
    answer = await polled.call("ICapabilitiesServiceV2.GetCapabilities")
    assert "IScriptServiceV2" in answer["result"]["SupportedCapabilities"]
    gate.touch()
    assert [(await one)["ExitCode"] for one in waiting] == [0, 0]
    assert len(set(polled.handed_out)) == 3


async def test_files_both_ways(agent: AgentHome, polled: PolledServer) -> None:
    await polling(agent, polled)
    polled.streams["up-1"] = content = bytes(range(256)) * 9000
    answer = await polled.call("IFileTransferService.UploadFile", "Work/x", {"upload": "up-1"})
    assert answer["result"]["Length"] == len(content)
    answer = await polled.call("IFileTransferService.DownloadFile", "Work/x")
    assert answer["result"]["length"] == len(content)
    assert polled.streams[answer["result"]["download"].removeprefix("/streams/")] == content
    answer = await polled.call("IFileTransferService.UploadFile", "Work/y", {"upload": "nowhere"})
    assert answer["error"]["code"] == -32602


def marks(agent: AgentHome) -> int:
    path = agent.directory / "marks"
    return len(path.read_text()) if path.exists() else 0


V1_START = {"ScriptBody": "", "Isolation": "NoIsolation", "ScriptIsolationMutexTimeout": "00:01:00"}


async def test_the_agent_is_killed_between_request_and_reply(agent: AgentHome, polled: PolledServer) -> None:
    await polling(agent, polled)
    body = f"printf x >> {agent.directory}/marks; until test -e {agent.directory}/go; do sleep 0.02; done; exit 5"
    first = await polled.put(
        "IScriptServiceV2.StartScript",
        {"ScriptTicket": {"TaskId": "T"}, "ScriptBody": body, "DurationToWaitForScriptToFinish": "00:01:00"},
    )
    async with asyncio.timeout(PATIENCE):
        while not marks(agent):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    agent.agents[-1].process.kill()
    await agent.agents[-1].process.wait()
    assert first not in polled.answers
    (agent.directory / "go").touch()
    await polling(agent, polled)
    assert (await polled.answer(first))["result"]["Ticket"] == {"TaskId": "T"}
    assert (await polled.finished())["ExitCode"] == 5
    assert marks(agent) == 1


async def test_the_agent_is_killed_when_the_reply_is_on_its_way(agent: AgentHome, polled: PolledServer) -> None:
    """The reply does not arrive; what is asked for has no ticket, so a second start would be a second script."""
    await polling(agent, polled)
    seen = asyncio.Event()
    replies: list[Any] = []

    async def swallow(request: web.Request) -> Any:
        if "/replies/" in request.path:
            replies.append(await request.json())
            seen.set()
            await asyncio.Event().wait()
        return None

    polled.before = swallow
    body = f"printf x >> {agent.directory}/marks"
    first = await polled.put("IScriptService.StartScript", {**V1_START, "ScriptBody": body})
    async with asyncio.timeout(PATIENCE):
        await seen.wait()
    agent.agents[-1].process.kill()
    await agent.agents[-1].process.wait()
    polled.before = None
    await polling(agent, polled)
    assert await polled.answer(first) == replies[0]
    assert polled.handed_out == [first, first]
    request = {"Ticket": replies[0]["result"], "LastLogSequence": 0}
    async with asyncio.timeout(PATIENCE):
        while (await polled.call("IScriptService.GetStatus", request))["result"]["State"] != "Complete":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert marks(agent) == 1


async def test_a_call_that_was_begun_is_not_begun_again_where_that_would_double_it(
    agent: AgentHome, polled: PolledServer
) -> None:
    """The agent dies after it has noted the call, and before there is a reply: a record as that leaves it."""
    await polling(agent, polled)
    body = f"printf x >> {agent.directory}/marks"
    first = await polled.put("IScriptService.StartScript", {**V1_START, "ScriptBody": body})
    await polled.answer(first)
    await agent.agents[-1].stop()
    (record,) = (agent.home / WORK / POLLED_CALLS).iterdir()
    head = record.read_bytes().partition(b"\n")[0]
    record.write_bytes(head.replace(head[head.index(b'"length"') :], b'"length": null}') + b"\n")
    polled.waiting[first] = {
        "id": first,
        "method": "IScriptService.StartScript",
        "params": [{**V1_START, "ScriptBody": body}],
    }
    del polled.answers[first]
    await polling(agent, polled)
    answer = await polled.answer(first)
    assert answer["error"]["code"] == -32001
    assert "Whether it was done cannot be told" in answer["error"]["message"]


async def test_the_server_is_away_when_the_reply_is_ready(agent: AgentHome, polled: PolledServer) -> None:
    await polling(agent, polled)
    gate = agent.directory / "gate"
    body = f"printf x >> {agent.directory}/marks; until test -e {gate}; do sleep 0.02; done; exit 6"
    first = await polled.put(
        "IScriptServiceV2.StartScript",
        {"ScriptTicket": {"TaskId": "T"}, "ScriptBody": body, "DurationToWaitForScriptToFinish": "00:01:00"},
    )
    await polled.until(lambda: polled.handed_out)
    async with asyncio.timeout(PATIENCE):
        while not marks(agent):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await polled.stop()
    gate.touch()
    async with asyncio.timeout(PATIENCE):
        while not list((agent.home / WORK / POLLED_CALLS).glob("[0-9a-f]*")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await polled.start()
    assert (await polled.answer(first))["result"]["ExitCode"] == 6
    assert polled.handed_out == [first]
    assert marks(agent) == 1


async def test_an_agent_that_is_told_to_end_leaves_the_request_to_the_next_one(
    agent: AgentHome, polled: PolledServer
) -> None:
    await polling(agent, polled)
    body = f"printf x >> {agent.directory}/marks; sleep 0.1; exit 7"
    ended = asyncio.create_task(agent.agents[-1].ended())
    agent.agents[-1].send(signal.SIGTERM)
    first = await polled.put("IScriptServiceV2.StartScript", {"ScriptTicket": {"TaskId": "T"}, "ScriptBody": body})
    assert (await ended)[0] == 0
    assert first not in polled.answers or "error" in polled.answers[first]
    if first not in polled.answers:
        await polling(agent, polled)
        assert (await polled.finished())["ExitCode"] == 7
        assert marks(agent) == 1


async def test_several_servers_by_either_way(agent: AgentHome, polled: PolledServer, server: Server) -> None:
    """One by Halibut, one by HTTPS, and one that is away: none is in the way of another."""
    agent.poll(polled.port, https=True)
    (by_https,) = agent.settings.servers
    by_halibut = replace(by_https, address=f"https://127.0.0.1:{server.listener.port}", https=False)
    away = replace(by_https, address="https://127.0.0.1:9", subscription_id="poll://away/")
    agent.set(servers=(away, by_https, by_halibut), polling_connection_count=2)
    await (await agent.start()).until("expecting thumbprint")
    started = await polled.start_script("exit 3", "A", wait="00:00:30")
    answer = await server.script("exit 4", 30.0, "B")
    assert isinstance(answer, ScriptStatusResponseV2)
    assert (started["ExitCode"], answer.exit_code) == (3, 4)
    agent.agents[-1].send(signal.SIGTERM)
    code, problems = await agent.agents[-1].ended()
    assert code == 0
    assert problems
    assert all("127.0.0.1:9" in one for one in problems)


async def test_a_bad_server_is_told_of_in_one_line_and_tried_again(agent: AgentHome, polled: PolledServer) -> None:
    bad = {"requests": [{"id": "../../next", "method": "X.Y"}]}

    async def answer(request: web.Request) -> Any:
        return web.json_response(bad) if request.path.endswith("/next") else None

    polled.before = answer
    await polling(agent, polled, connections=3)
    async with asyncio.timeout(PATIENCE):
        while len(polled.heads) < 6:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    polled.before = None
    assert (await polled.start_script("exit 3", wait="00:00:30"))["ExitCode"] == 3
    agent.agents[-1].send(signal.SIGTERM)
    _, problems = await agent.agents[-1].ended()
    assert [one for one in problems if "Traceback" in one] == []
    assert len([one for one in problems if "the id of a request of the server has another form" in one]) <= 6
    assert {path for _, path, _ in polled.heads if "/replies/" in path} == {
        f"/agents/{NAME}/replies/{one}" for one in polled.answers
    }


async def test_a_reply_that_is_too_long_on_the_way_becomes_one_that_says_so(
    agent: AgentHome, polled: PolledServer
) -> None:
    async def narrow(request: web.Request) -> Any:
        is_long = "/replies/" in request.path and (request.content_length or 0) > 10_000
        return web.Response(status=413) if is_long else None

    polled.before = narrow
    await polling(agent, polled)
    started = await polled.call(
        "IScriptServiceV2.StartScript",
        {
            "ScriptTicket": {"TaskId": "T"},
            "ScriptBody": "for i in {1..500}; do echo a line of the log; done",
            "DurationToWaitForScriptToFinish": "00:00:30",
        },
    )
    assert "its reply cannot be delivered" in started["error"]["message"]
    assert "413" in started["error"]["message"]
    polled.before = None
    assert (await polled.finished())["ExitCode"] == 0
