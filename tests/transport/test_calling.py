"""Calls to a listening agent from end to end: with files, failures, and connections that are used again."""

from __future__ import annotations

import asyncio
import io
import random
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tentacle.transport.address import Address
from tentacle.transport.calling import ListeningCaller
from tentacle.transport.errors import CallFailed
from tentacle.transport.listener import ListenerOptions
from tentacle.wire.limits import Limits
from tentacle.wire.messages import read_guid
from tests.patience import PATIENCE
from tests.pki import identity
from tests.sockets import joined, talking
from tests.transport.harness import (
    FAST,
    Echo,
    address,
    caller,
    listening_agent,
    request,
    response,
    spool_in,
    stream_document,
)


async def test_calls_use_one_connection_again(tmp_path: Path) -> None:
    echo = Echo()
    async with listening_agent(tmp_path, echo) as agent, caller(tmp_path) as server:
        for number in range(3):
            assert response(await server.call(address(agent), request(number), {})).result == [number]
        assert len(agent._trusted) == 1
    assert len(echo.requests) == 3


async def test_calls_at_once_use_connections_of_their_own(tmp_path: Path) -> None:
    echo = Echo()
    echo.hold = asyncio.Event()
    async with listening_agent(tmp_path, echo) as agent, caller(tmp_path) as server:
        calls = [asyncio.create_task(server.call(address(agent), request(n), {})) for n in range(7)]
        async with asyncio.timeout(PATIENCE):
            while len(echo.requests) < 7:
                echo.entered.clear()
                await echo.entered.wait()
        echo.hold.set()
        assert sorted([response(await call).result[0] for call in calls]) == list(range(7))


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
async def test_files_travel_both_ways(tmp_path: Path, size: int) -> None:
    data = bytes(random.Random(size).choices(b"abcdefgh", k=size))
    sent = uuid4()
    async with listening_agent(tmp_path, Echo()) as agent, caller(tmp_path) as server:
        received = await server.call(address(agent), request(stream_document(sent, size)), {sent: io.BytesIO(data)})
        (document,) = response(received).result
        back = read_guid(document["id"])
        assert isinstance(back, UUID)
        assert received.files[back].read_bytes() == data.upper()
        received.release()


async def test_a_stale_connection_is_replaced_without_an_error(tmp_path: Path) -> None:
    """The original drops an idle connection after a minute; a caller must take that as normal (docs/spec/wire.md,
    "Time-outs").
    """
    options = ListenerOptions(timeouts=replace(FAST, listening_idle=0.05))
    async with listening_agent(tmp_path, Echo(), options) as agent, caller(tmp_path) as server:
        await server.call(address(agent), request(1), {})
        async with asyncio.timeout(PATIENCE):
            while agent._trusted:
                await asyncio.gather(*agent._trusted)
        assert response(await server.call(address(agent), request(2), {})).result == [2]


async def test_nobody_there_is_said_before_the_request_began(tmp_path: Path) -> None:
    async with caller(tmp_path) as server:
        with pytest.raises(
            CallFailed, match=r"before the request could begin: cannot connect to .*: Connection refused$"
        ) as caught:
            await server.call(Address("127.0.0.1", 1, "0" * 40), request(), {})
    assert not caught.value.connected


async def test_an_agent_that_dies_during_a_call_is_told_apart(tmp_path: Path) -> None:
    echo = Echo()
    echo.hold = asyncio.Event()
    async with caller(tmp_path) as server, listening_agent(tmp_path, echo) as agent:
        call = asyncio.create_task(server.call(address(agent), request(1), {}))
        await echo.entered.wait()
        for task in list(agent._trusted):
            task.cancel()
        with pytest.raises(CallFailed, match="after the request began") as caught:
            await call
        echo.hold.set()
    assert caught.value.connected


async def test_a_connection_that_was_idle_for_too_long_is_not_used_again(tmp_path: Path) -> None:
    now = 0.0
    spool = spool_in(tmp_path / "server-spool")
    server = ListeningCaller(identity("server"), spool, replace(FAST, pooled=10), Limits(), clock=lambda: now)
    async with listening_agent(tmp_path, Echo()) as agent:
        used = []
        for pause in (0, 9, 10):
            now += pause
            await server.call(address(agent), request(1), {})
            used.append(server._pool[address(agent)][-1].exchange)
        assert used[0] is used[1]
        assert used[2] is not used[1]
        assert len(server._pool[address(agent)]) == 1
        await server.aclose()


async def test_only_so_many_idle_connections_are_kept(tmp_path: Path) -> None:
    echo = Echo()
    echo.hold = asyncio.Event()
    server = ListeningCaller(identity("server"), spool_in(tmp_path / "server-spool"), FAST, Limits(), most_idle=2)
    async with listening_agent(tmp_path, echo) as agent, asyncio.timeout(PATIENCE):
        calls = [asyncio.create_task(server.call(address(agent), request(n), {})) for n in range(4)]
        while len(echo.requests) < 4:
            echo.entered.clear()
            await echo.entered.wait()
        echo.hold.set()
        await asyncio.gather(*calls)
        assert len(server._pool[address(agent)]) == 2
        while len(agent._trusted) > 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await server.aclose()
        while agent._trusted:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_an_agent_that_hangs_up_is_tried_several_times(tmp_path: Path) -> None:
    came = 0

    async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1

    async with talking(hang_up) as port, caller(tmp_path) as server:
        with pytest.raises(CallFailed, match="before the request could begin") as caught:
            await server.call(Address("127.0.0.1", port, identity("agent").thumbprint), request(), {})
    assert (came, caught.value.connected) == (FAST.connect_attempts, False)


async def test_an_agent_with_another_certificate_is_not_tried_again(tmp_path: Path) -> None:
    came = 0
    echo = Echo()
    async with listening_agent(tmp_path, echo) as agent:

        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal came
            came += 1
            await joined(reader, writer, "127.0.0.1", agent.port)

        async with talking(between) as port, caller(tmp_path) as server:
            with pytest.raises(CallFailed, match="before the request could begin") as caught:
                await server.call(Address("127.0.0.1", port, "0" * 40), request(), {})
    assert (came, echo.requests, caught.value.connected) == (1, [], False)


async def test_a_call_that_is_given_up_leaves_no_connection(tmp_path: Path) -> None:
    echo = Echo()
    echo.hold = asyncio.Event()
    async with listening_agent(tmp_path, echo) as agent, caller(tmp_path) as server, asyncio.timeout(PATIENCE):
        call = asyncio.create_task(server.call(address(agent), request(1), {}))
        await echo.entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not server._pool[address(agent)], "an answer may come on it that nobody waits for"
        echo.hold.set()
        assert response(await server.call(address(agent), request(2), {})).result == [2]
