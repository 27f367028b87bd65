"""The servers that an agent polls, with real connections to real ports: more, fewer, others, while it runs."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from tentacle.agent.plan import PollPlan
from tentacle.agent.polling import Polling
from tentacle.transport.address import Address
from tentacle.transport.backoff import Backoff
from tentacle.transport.calls import Calls
from tentacle.transport.poller import Poller, PollerOptions
from tests.patience import PATIENCE
from tests.pki import identity
from tests.transport.harness import FAST, Echo, spool_in
from tests.transport.polling_port import SUBSCRIPTION, PollingPort

TRUSTED = [identity("server").thumbprint]


class Server:
    """A server and the plan to poll it."""

    def __init__(self, port: PollingPort, number: int) -> None:
        self.port = port
        self.number = number

    def plan(self, connections: int = 1, subscription: str = SUBSCRIPTION) -> PollPlan:
        address = Address("127.0.0.1", self.number, identity("server").thumbprint)
        return PollPlan(address, subscription, f"https://127.0.0.1:{self.number}/", connections)


class Sleepy(Backoff):
    """After a failure it waits for longer than any test does."""

    def __init__(self) -> None:
        super().__init__(time.monotonic, random.Random(1))

    def wait(self) -> float:
        return 1000


@asynccontextmanager
async def servers(tmp_path: Path, count: int) -> AsyncIterator[list[Server]]:
    async with AsyncExitStack() as stack:
        found = []
        for number in range(count):
            port = PollingPort("agent")
            directory = tmp_path / f"server-{number}"
            directory.mkdir()
            found.append(Server(port, await stack.enter_async_context(port.listening(directory))))
        yield found


@asynccontextmanager
async def polling(tmp_path: Path, polls: Collection[PollPlan], echo: Echo | None = None) -> AsyncIterator[Polling]:
    spool, calls = spool_in(tmp_path / "spool"), Calls(echo or Echo())

    def make(poll: PollPlan) -> Poller:
        options = PollerOptions(poll.address, poll.subscription, poll.connections, FAST)
        return Poller(identity("agent"), calls, spool, options, make_backoff=Sleepy)

    polling = Polling(make, polls)
    task = asyncio.create_task(polling.run())
    try:
        yield polling
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await calls.aclose(5)


async def until_gone(polling: Polling) -> None:
    """Waits until no poller runs that is not wanted."""
    async with asyncio.timeout(PATIENCE):
        while len(polling._tasks) > len(polling.pollers):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_every_server_of_the_plan_is_polled_and_none_after_the_end(tmp_path: Path) -> None:
    async with servers(tmp_path, 2) as (one, other):
        async with polling(tmp_path, [one.plan(2), other.plan()]) as agent:
            await one.port.has(2)
            await other.port.has(1)
            assert len(agent.pollers) == 2
        await one.port.has(0)
        await other.port.has(0)


async def test_who_polls_nobody_may_be_told_to_later(tmp_path: Path) -> None:
    async with servers(tmp_path, 1) as (server,), polling(tmp_path, []) as agent:
        await asyncio.sleep(0)
        agent.follow([server.plan(3)], TRUSTED)
        await server.port.has(3)


async def test_what_is_told_before_the_beginning_counts_then(tmp_path: Path) -> None:
    async with servers(tmp_path, 1) as (server,), polling(tmp_path, []) as agent:
        agent.follow([server.plan()], TRUSTED)
        assert len(agent.pollers) == 1
        await server.port.has(1)
        assert len(agent._tasks) == 1


async def test_the_same_server_more_often_keeps_its_connections(tmp_path: Path) -> None:
    async with servers(tmp_path, 1) as (server,), polling(tmp_path, [server.plan(1)]) as agent:
        await server.port.has(1)
        (first,), (poller,) = list(server.port.up), agent.pollers
        agent.follow([server.plan(1)], TRUSTED)
        agent.follow([server.plan(3)], TRUSTED)
        await server.port.has(3)
        assert first in server.port.up
        assert agent.pollers == [poller]
        assert len(server.port.seen) == 3
        agent.follow([server.plan(1)], TRUSTED)
        await server.port.has(1)


async def test_another_subscription_is_another_poller(tmp_path: Path) -> None:
    async with servers(tmp_path, 1) as (server,), polling(tmp_path, [server.plan()]) as agent:
        await server.port.has(1)
        agent.follow([server.plan(), server.plan(subscription="poll://other/")], TRUSTED)
        await server.port.has(2)
        agent.follow([server.plan(subscription="poll://other/")], TRUSTED)
        await server.port.has(1)
        await until_gone(agent)
        assert [poller.options.subscription for poller in agent.pollers] == ["poll://other/"]


async def test_a_server_that_is_left_gets_its_answer_first(tmp_path: Path) -> None:
    echo = Echo()
    echo.hold = asyncio.Event()
    async with servers(tmp_path, 2) as (old, new), polling(tmp_path, [old.plan()], echo) as agent:
        call = asyncio.create_task(old.port.call(7))
        await echo.entered.wait()
        agent.follow([new.plan()], TRUSTED)
        await new.port.has(1)
        assert len(old.port.up) == 1
        echo.hold.set()
        assert await call == [7]
        await old.port.has(0)
        await until_gone(agent)


async def test_a_server_that_is_not_trusted_any_more_is_cut_off(tmp_path: Path) -> None:
    echo = Echo()
    echo.hold = asyncio.Event()
    async with servers(tmp_path, 1) as (server,), polling(tmp_path, [server.plan()], echo) as agent:
        call = asyncio.create_task(server.port.call(7))
        await echo.entered.wait()
        agent.follow([], [])
        await until_gone(agent)
        await server.port.has(0)
        with suppress(Exception):
            await call
        assert call.exception() is not None
        echo.hold.set()


async def test_a_server_that_is_not_reached_is_left_at_once(tmp_path: Path) -> None:
    """Its poller is asleep, perhaps for minutes."""
    async with servers(tmp_path, 1) as (server,):
        nobody = replace(server.plan(), address=Address("127.0.0.1", 1, TRUSTED[0]))
        async with polling(tmp_path, [nobody]) as agent:
            await asyncio.sleep(0.05)
            agent.follow([server.plan()], TRUSTED)
            await until_gone(agent)
            await server.port.has(1)
