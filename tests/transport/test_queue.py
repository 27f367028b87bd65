"""Calls to a polling agent from end to end: they wait to be collected, and go to nobody else."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tentacle.transport.errors import CallFailed, Disconnected
from tentacle.transport.exchange import Exchange
from tentacle.transport.queue import PollingQueues
from tentacle.transport.stream import TcpStream
from tentacle.wire.connection import Connection
from tentacle.wire.events import End, Identity, IdentityKind, Next, Preface, Proceed, RequestEvent, ResponseEvent
from tentacle.wire.messages import Response
from tentacle.wire.rules import Role
from tests.patience import PATIENCE
from tests.transport.harness import (
    FAST,
    SUBSCRIPTION,
    Echo,
    polling_agent,
    polling_server,
    request,
    response,
    spool_in,
    stream_document,
    two_ends,
)


async def test_a_polling_agent_collects_calls(tmp_path: Path) -> None:
    sent, data = uuid4(), b"some bytes"
    async with polling_server(tmp_path) as (listener, queues), polling_agent(tmp_path, listener.port, Echo()):
        for number in range(3):
            assert response(await queues.call(SUBSCRIPTION, request(number), {})).result == [number]
        received = await queues.call(SUBSCRIPTION, request(stream_document(sent, len(data))), {sent: io.BytesIO(data)})
        (path,) = received.files.values()
        assert path.read_bytes() == data.upper()
        received.release()


async def test_a_polling_agent_survives_long_silence(tmp_path: Path) -> None:
    """Many empty messages in a row, then a call."""
    quick = replace(FAST, polling_queue_wait=0.01)
    async with polling_server(tmp_path, quick) as (listener, queues), polling_agent(tmp_path, listener.port, Echo()):
        await queues.call(SUBSCRIPTION, request(1), {})
        await asyncio.sleep(0.2)
        assert queues.connected(SUBSCRIPTION) == 1
        assert response(await queues.call(SUBSCRIPTION, request(2), {})).result == [2]


async def test_several_connections_answer_calls_at_once(tmp_path: Path) -> None:
    echo = Echo()
    echo.hold = asyncio.Event()
    async with (
        polling_server(tmp_path) as (listener, queues),
        polling_agent(tmp_path, listener.port, echo, connections=4),
    ):
        calls = [asyncio.create_task(queues.call(SUBSCRIPTION, request(n), {})) for n in range(4)]
        async with asyncio.timeout(PATIENCE):
            while len(echo.requests) < 4:
                echo.entered.clear()
                await echo.entered.wait()
        echo.hold.set()
        assert sorted([response(await call).result[0] for call in calls]) == [0, 1, 2, 3]


async def test_a_polling_agent_comes_back(tmp_path: Path) -> None:
    async with polling_server(tmp_path) as (listener, queues), polling_agent(tmp_path, listener.port, Echo()):
        await queues.call(SUBSCRIPTION, request(1), {})
        for task in list(listener._trusted):
            task.cancel()
        assert response(await queues.call(SUBSCRIPTION, request(2), {})).result == [2]


async def test_a_call_that_nobody_collects_fails_in_time(tmp_path: Path) -> None:
    queues = PollingQueues(replace(FAST, polling_queue=0.05))
    with pytest.raises(CallFailed, match="did not collect the request within the allowed time") as caught:
        await queues.call(SUBSCRIPTION, request(), {})
    assert not caught.value.connected


async def test_an_agent_cannot_collect_what_is_for_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with polling_server(tmp_path) as (listener, queues):
        queues._allowed = lambda subscription, _thumbprint: subscription != SUBSCRIPTION
        async with polling_agent(tmp_path, listener.port, Echo()), asyncio.timeout(PATIENCE):
            while not any("belongs to somebody else" in record.message for record in caplog.records):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert queues.connected(SUBSCRIPTION) == 0


def subscriber(peer: TcpStream, spool: Path) -> Exchange:
    return Exchange(peer, Connection(Role.POLLING_SERVICE), FAST, spool_in(spool))


async def introduce(exchange: Exchange) -> None:
    await exchange.send(Preface())
    await exchange.send(Identity(IdentityKind.SUBSCRIBER, SUBSCRIPTION))


async def test_calls_are_collected_in_the_order_of_asking(tmp_path: Path) -> None:
    echo = Echo()
    async with polling_server(tmp_path) as (listener, queues):
        calls = [asyncio.create_task(queues.call(SUBSCRIPTION, request(n), {})) for n in range(5)]
        await asyncio.sleep(0)
        async with polling_agent(tmp_path, listener.port, echo), asyncio.timeout(PATIENCE):
            await asyncio.gather(*calls)
    assert [one.params for one in echo.requests] == [(n,) for n in range(5)]


async def test_a_call_that_was_given_up_is_not_collected(tmp_path: Path) -> None:
    echo = Echo()
    async with polling_server(tmp_path) as (listener, queues):
        given_up = asyncio.create_task(queues.call(SUBSCRIPTION, request(1), {}))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        async with polling_agent(tmp_path, listener.port, echo):
            await queues.call(SUBSCRIPTION, request(2), {})
    assert [one.params for one in echo.requests] == [(2,)]


async def test_the_files_of_an_answer_that_nobody_waits_for_are_removed(tmp_path: Path) -> None:
    echo, sent = Echo(), uuid4()
    echo.hold = asyncio.Event()
    async with polling_server(tmp_path) as (listener, queues), polling_agent(tmp_path, listener.port, echo):
        asked = request(stream_document(sent, 4))
        call = asyncio.create_task(queues.call(SUBSCRIPTION, asked, {sent: io.BytesIO(b"data")}))
        await echo.entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        echo.hold.set()
        # The connection goes on, so the answer has been read.
        assert response(await queues.call(SUBSCRIPTION, request(2), {})).result == [2]
        assert list((tmp_path / "server-spool").iterdir()) == []


async def test_a_call_that_was_taken_for_a_subscriber_that_has_left_is_the_next_one_s(tmp_path: Path) -> None:
    queues, spool = PollingQueues(FAST), spool_in(tmp_path / "server-spool")
    async with two_ends() as (stream, peer), asyncio.timeout(PATIENCE):
        await introduce(subscriber(peer, tmp_path / "gone"))
        peer._writer.write_eof()
        exchange = Exchange(stream, Connection(Role.POLLING_CLIENT), FAST, spool)
        while not stream._arrivals.at_eof():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        calls = [asyncio.create_task(queues.call(SUBSCRIPTION, request(n), {})) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Disconnected, match="closed the connection, or spoke out of turn"):
            await queues.serve(exchange, "T")
        assert queues.connected(SUBSCRIPTION) == 0
    async with two_ends() as (stream, peer), asyncio.timeout(PATIENCE):
        serving = asyncio.create_task(queues.serve(Exchange(stream, Connection(Role.POLLING_CLIENT), FAST, spool), "T"))
        agent = subscriber(peer, tmp_path / "agent")
        await introduce(agent)
        await agent.receive(30)
        for number in range(2):
            event = (await agent.receive(30)).event
            assert isinstance(event, RequestEvent)
            assert event.request.params == (number,), "the one that was taken comes first"
            await agent.send(ResponseEvent(Response(event.request.id, number)))
            if number == 0:
                await agent.send(Next())
                assert isinstance((await agent.receive(30)).event, Proceed)
        assert [response(await call).result for call in calls] == [0, 1]
        await agent.send(End())
        await serving


async def test_a_call_whose_agent_dies_after_it_was_sent_fails_and_is_not_repeated(tmp_path: Path) -> None:
    """It may have been carried out."""
    echo = Echo()
    echo.hold = asyncio.Event()
    async with polling_server(tmp_path) as (listener, queues), polling_agent(tmp_path, listener.port, echo):
        call = asyncio.create_task(queues.call(SUBSCRIPTION, request(1), {}))
        await echo.entered.wait()
        for task in list(listener._trusted):
            task.cancel()
        with pytest.raises(CallFailed, match="The connection to the polling agent failed") as caught:
            await call
        assert caught.value.connected
        echo.hold.set()
        await queues.call(SUBSCRIPTION, request(2), {})
    assert [one.params for one in echo.requests] == [(1,), (2,)]
