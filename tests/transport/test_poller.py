"""A poller with more or fewer connections, with two certificates, and with nobody who welcomes it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.transport.address import Address
from tentacle.transport.backoff import Backoff
from tentacle.transport.calls import Calls
from tentacle.transport.exchange import Exchange
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.poller import Poller, PollerOptions
from tentacle.transport.queue import PollingQueues
from tentacle.transport.spool import Spool
from tentacle.wire.events import Identity, IdentityKind
from tentacle.wire.rules import Role
from tests.patience import PATIENCE
from tests.pki import identity
from tests.transport.harness import FAST, Echo, polling_agent, polling_server, request, response, spool_in
from tests.transport.polling_port import SUBSCRIPTION, PollingPort


class Impatient(Backoff):
    """Counts its waits, which take no time to speak of."""

    def __init__(self) -> None:
        super().__init__(time.monotonic, random.Random(1))
        self.waits = 0

    def wait(self) -> float:
        self.waits += 1
        return 0.02


@asynccontextmanager
async def polling(
    port: PollingPort,
    tmp_path: Path,
    connections: int,
    who: str,
    fallback: str | None = None,
    make_backoff: Callable[[], Backoff] | None = None,
) -> AsyncIterator[tuple[Poller, list[Impatient]]]:
    spool = Spool(tmp_path / "spool")
    spool.create()
    backoffs: list[Impatient] = []

    def impatient() -> Backoff:
        backoffs.append(Impatient())
        return backoffs[-1]

    async with port.listening(tmp_path) as number:
        options = PollerOptions(
            Address("127.0.0.1", number, identity("server").thumbprint), SUBSCRIPTION, connections, FAST
        )
        other = identity(fallback) if fallback else None
        calls = Calls(Echo())
        backoff = make_backoff or impatient
        poller = Poller(identity(who), calls, spool, options, fallback=other, make_backoff=backoff)
        task = asyncio.create_task(poller.run())
        try:
            yield poller, backoffs
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_more_connections_at_once_fewer_between_two_polls(tmp_path: Path) -> None:
    port = PollingPort("agent")
    async with polling(port, tmp_path, 1, "agent") as (poller, _):
        await port.has(1)
        poller.resize(4)
        await port.has(4)
        assert poller.options.connections == 4
        first = list(port.up)
        poller.resize(2)
        poller.resize(3)
        assert port.up == first, "none is cut"
        await port.has(3)
        assert set(port.up) < set(first), "those that stay are the same ones"
        poller.resize(4)
        await port.has(4)
        assert len(port.seen) == 5


async def test_a_poller_without_connections_returns(tmp_path: Path) -> None:
    port = PollingPort("agent")
    async with polling(port, tmp_path, 2, "agent") as (poller, _):
        await port.has(2)
        poller.resize(0)
        await port.has(0)
        await until(lambda: poller.connected == 0)


async def test_the_certificate_that_is_welcome_is_found_and_kept(tmp_path: Path) -> None:
    port = PollingPort("new")
    old, new = identity("agent").thumbprint, identity("new").thumbprint
    async with polling(port, tmp_path, 1, "agent", "new") as (_, backoffs):
        await port.has(1)
        assert port.seen == [old, new]
        assert backoffs[0].waits == 0, "the other one is tried at once"
        await port.drop()
        await port.has(1, came=3)
        assert port.seen[2:] == [new]
        # The server takes it back: the first is tried again.
        port.known = {old}
        await port.drop()
        await port.has(1, came=5)
        assert port.seen[3:] == [new, old]


async def test_other_certificates_are_for_new_connections(tmp_path: Path) -> None:
    port = PollingPort("agent", "new")
    async with polling(port, tmp_path, 1, "agent") as (poller, _):
        await port.has(1)
        poller.show(identity("new"), identity("agent"))
        await port.drop()
        await port.has(1, came=2)
        assert port.seen == [identity("agent").thumbprint, identity("new").thumbprint]


async def test_many_connections_agree_on_one_certificate(tmp_path: Path) -> None:
    port = PollingPort("new")
    async with polling(port, tmp_path, 8, "agent", "new"):
        await port.has(8)
        assert port.seen.count(identity("new").thumbprint) == 8


class Drowsy(Impatient):
    """Sleeps for an hour unless the server was there a moment ago."""

    def wait(self) -> float:
        self.waits += 1
        worked, self._worked = self._worked, False
        return 0.02 if worked else 3600


async def test_when_one_connection_is_back_the_others_are_soon(tmp_path: Path) -> None:
    port = PollingPort()
    made: list[Impatient] = []

    def make_backoff() -> Backoff:
        made.append(Drowsy() if made else Impatient())
        return made[-1]

    async with polling(port, tmp_path, 5, "agent", make_backoff=make_backoff):
        await until(lambda: len(made) == 5 and all(backoff.waits for backoff in made))
        port.known = {identity("agent").thumbprint}
        await port.has(5)


async def test_what_all_connections_meet_is_told_by_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that is away, and comes back: as many lines for five connections as for one."""
    caplog.set_level(logging.INFO)
    port = PollingPort()
    async with polling(port, tmp_path, 5, "agent") as (poller, backoffs):
        await until(lambda: len(backoffs) == 5 and all(backoff.waits >= 4 for backoff in backoffs))
        assert all("(0 of 5 connections are up)" in told for told in told_by(caplog, logging.ERROR))
        # Every connection may be the first one to meet it.
        assert len(told_by(caplog, logging.ERROR)) <= backoffs[0].waits + 1
        assert all(link.error and not link.up for link in poller.links.values())
        port.known = {identity("agent").thumbprint}
        await port.has(5)
        await until(lambda: poller.connected == 5)
        assert sum("as poll://abc/" in told for told in told_by(caplog, logging.INFO)) == 1
        assert told_by(caplog, logging.INFO)[-1].endswith(": all 5 connections are up")
        # The server breaks what it had taken, and comes back a second time.
        port.known = set()
        await port.drop()
        await until(lambda: poller.connected == 0)
        port.known = {identity("agent").thumbprint}
        await until(lambda: poller.connected == 5)
        for said in ("as poll://abc/", ": all 5 connections are up"):
            assert sum(said in told for told in told_by(caplog, logging.INFO)) == 2


def told_by(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    records = [record for record in caplog.records if record.name == "tentacle.transport.poller"]
    return [record.getMessage() for record in records if record.levelno == level]


async def test_where_neither_is_welcome_each_round_is_followed_by_a_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = PollingPort()
    async with polling(port, tmp_path, 1, "agent", "new") as (poller, backoffs):
        await until(lambda: len(port.seen) >= 7)
        assert backoffs[0].waits >= 3
        assert poller.connected == 0
    assert "as soon as it had seen this agent's certificate" in caplog.text
    assert "show-thumbprint" in caplog.text
    assert "as poll://abc/" not in caplog.text


async def test_an_agent_that_is_not_trusted_keeps_trying_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with polling_server(tmp_path) as (listener, _):
        listener._is_trusted = lambda _thumbprint: False
        async with polling_agent(tmp_path, listener.port, Echo()), asyncio.timeout(PATIENCE):
            while sum("Trying again in" in record.message for record in caplog.records) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_server_that_breaks_every_connection_is_few_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tentacle")
    came = 0

    async def serve(exchange: Exchange, _thumbprint: str) -> None:
        nonlocal came
        while not isinstance((await exchange.receive(30)).event, Identity):
            pass
        await exchange.send(Identity(IdentityKind.SERVER))
        await exchange.stream.send(b"\xff" * 100)
        came += 1
        await exchange.stream.receive()

    options = ListenerOptions(host="127.0.0.1", role=Role.POLLING_CLIENT, timeouts=FAST)
    listener = Listener(identity("server"), lambda _: True, serve, spool_in(tmp_path / "server"), options)
    await listener.start()
    try:
        async with polling_agent(tmp_path, listener.port, Echo(), connections=3):
            await until(lambda: came >= 60)
    finally:
        await listener.aclose()
    said = [record.getMessage() for record in caplog.records if record.name.startswith("tentacle.")]
    assert len(said) <= 6, said
    assert any("a message is not a deflate stream. Trying again in" in line for line in said)
    assert any("more connection(s) like this" in line for line in said)


async def test_a_server_that_never_reads_holds_one_connection_up_and_not_for_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    echo, queues = Echo(), PollingQueues(FAST)
    huge = random.Random(1).randbytes(12_000_000).hex()
    came = 0

    async def serve(exchange: Exchange, thumbprint: str) -> None:
        nonlocal came
        came += 1
        if came > 1:
            await queues.serve(exchange, thumbprint)
            return
        while not isinstance((await exchange.receive(30)).event, Identity):
            pass
        await exchange.send(Identity(IdentityKind.SERVER))
        await exchange.send_request(request(huge), {})
        await asyncio.Event().wait()

    options = ListenerOptions(host="127.0.0.1", role=Role.POLLING_CLIENT, timeouts=FAST)
    spool = spool_in(tmp_path)
    listener = Listener(identity("server"), lambda _: True, serve, spool, options)
    await listener.start()
    address = Address("127.0.0.1", listener.port, identity("server").thumbprint)
    poller = Poller(
        identity("agent"),
        Calls(echo),
        spool,
        PollerOptions(address, SUBSCRIPTION, 2, replace(FAST, send=0.5)),
        make_backoff=Impatient,
    )
    polling = asyncio.create_task(poller.run())
    try:
        await until(lambda: bool(echo.requests))
        async with asyncio.timeout(PATIENCE):
            assert response(await queues.call(SUBSCRIPTION, request("hello"), {})).result == ["hello"]
        await until(lambda: came == 3)
        assert "waited 0.5 s for the peer to take what was sent" in caplog.text
    finally:
        polling.cancel()
        with suppress(asyncio.CancelledError):
            await polling
        await listener.aclose()
