"""Calls from end to end, in both modes, with files, failures and silence."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tentacle.transport.backoff import Backoff, delay
from tentacle.transport.calling import ListeningCaller
from tentacle.transport.calls import Calls
from tentacle.transport.dial import Address
from tentacle.transport.errors import CallFailed
from tentacle.transport.exchange import Received
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.poller import Poller, PollerOptions
from tentacle.transport.queue import PollingQueues
from tentacle.transport.spool import Spool
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.events import ResponseEvent
from tentacle.wire.limits import Limits
from tentacle.wire.messages import Request, Response, read_guid
from tentacle.wire.rules import Role
from tests.pki import identity
from tests.transport.harness import FAST, Echo, listening_agent, stream_document

SUBSCRIPTION = "poll://abcdefghijklmnopqrst/"


def request(*params: object) -> Request:
    return Request("IEcho::Say[1] / 1", "IEcho", "Say", params)


def response(received: Received) -> Response:
    assert isinstance(received.event, ResponseEvent)
    return received.event.response


def spool_in(directory: Path) -> Spool:
    spool = Spool(directory)
    spool.create()
    return spool


@asynccontextmanager
async def caller(tmp_path: Path, timeouts: Timeouts = FAST) -> AsyncIterator[ListeningCaller]:
    calling = ListeningCaller(identity("server"), spool_in(tmp_path / "server-spool"), timeouts, Limits())
    try:
        yield calling
    finally:
        await calling.aclose()
        assert list((tmp_path / "server-spool").iterdir()) == []


def address(listener: Listener) -> Address:
    return Address("127.0.0.1", listener.port, identity("agent").thumbprint)


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
        async with asyncio.timeout(30):
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
        async with asyncio.timeout(30):
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


async def test_a_call_is_worked_out_although_its_connection_has_gone(tmp_path: Path) -> None:
    finished = asyncio.Event()
    echo = Echo()
    echo.hold = asyncio.Event()

    class Slow(Echo):
        async def __call__(self, request: Request, files: object) -> tuple[Response, dict[UUID, object]]:  # type: ignore[override]
            await echo(request, {})
            finished.set()
            return Response(request.id), {}

    async with listening_agent(tmp_path, Slow()) as agent, caller(tmp_path) as server:
        call = asyncio.create_task(server.call(address(agent), request(1), {}))
        await echo.entered.wait()
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        for task in list(agent._trusted):
            task.cancel()
        echo.hold.set()
        await asyncio.wait_for(finished.wait(), 30)


# --- polling -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def polling_server(tmp_path: Path, timeouts: Timeouts = FAST) -> AsyncIterator[tuple[Listener, PollingQueues]]:
    queues = PollingQueues(timeouts)
    options = ListenerOptions(host="127.0.0.1", role=Role.POLLING_CLIENT, timeouts=timeouts)
    listener = Listener(
        identity("server"),
        lambda thumbprint: thumbprint == identity("agent").thumbprint,
        queues.serve,
        spool_in(tmp_path / "server-spool"),
        options,
    )
    await listener.start()
    try:
        yield listener, queues
    finally:
        await listener.aclose()


@asynccontextmanager
async def polling_agent(tmp_path: Path, port: int, handler: Echo, connections: int = 1) -> AsyncIterator[Poller]:
    calls = Calls(handler)
    options = PollerOptions(Address("127.0.0.1", port, identity("server").thumbprint), SUBSCRIPTION, connections, FAST)
    poller = Poller(identity("agent"), calls, spool_in(tmp_path / "agent-spool"), options, make_backoff=impatient)
    task = asyncio.create_task(poller.run())
    try:
        yield poller
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await calls.aclose(5)


class Impatient(Backoff):
    """A back-off that does not make tests wait."""

    def wait(self) -> float:
        super().wait()
        return 0.01


def impatient() -> Backoff:
    return Impatient(asyncio.get_running_loop().time, random.Random(1))


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
        async with asyncio.timeout(30):
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
        async with polling_agent(tmp_path, listener.port, Echo()), asyncio.timeout(30):
            while not any("belongs to somebody else" in record.message for record in caplog.records):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert queues.connected(SUBSCRIPTION) == 0


async def test_an_agent_that_is_not_trusted_keeps_trying_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with polling_server(tmp_path) as (listener, _):
        listener._is_trusted = lambda _thumbprint: False
        async with polling_agent(tmp_path, listener.port, Echo()), asyncio.timeout(30):
            while sum("Trying again in" in record.message for record in caplog.records) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("multiplier", "longest", "elapsed", "expected"),
    [(1, 120, 0, 5), (1, 120, 2, 5), (1, 120, 3, 6), (1, 120, 60, 120), (0.5, 120, 30, 45)],
)
def test_the_delay_is_the_specified_one(multiplier: float, longest: float, elapsed: float, expected: float) -> None:
    """docs/spec/wire.md, "Reconnect delays", test vectors of the original."""
    assert delay(elapsed, multiplier, 5, longest) == expected


def test_the_first_wait_after_success_is_short_and_later_ones_grow() -> None:
    now = 0.0
    backoff = Backoff(lambda: now, random.Random(7))
    waits = []
    backoff.attempt()
    backoff.success()
    for _ in range(8):
        waits.append(backoff.wait())
        now += waits[-1]
        backoff.attempt()
        now += 1
    assert 0.5 <= waits[0] <= 2
    assert waits[1] >= 5
    assert waits[1:] == sorted(waits[1:])
    assert waits[-1] == 120
