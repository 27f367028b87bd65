"""A poller with more or fewer connections, with two certificates, and with proxies that say no."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tentacle.errors import TentacleError
from tentacle.transport.backoff import Backoff
from tentacle.transport.calls import Calls
from tentacle.transport.dial import Address, Proxy, dial
from tentacle.transport.errors import NameUnknown, TlsFailed
from tentacle.transport.exchange import Exchange
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.poller import Poller, PollerOptions
from tentacle.transport.queue import PollingQueues
from tentacle.transport.spool import Spool
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.rules import Role
from tests.pki import identity
from tests.sockets import talking
from tests.transport.harness import FAST, Echo

PASSWORD = "pass:w0rd-of-the-proxy"
SUBSCRIPTION = "poll://abc/"


class Impatient(Backoff):
    """Counts its waits, which take no time to speak of."""

    def __init__(self) -> None:
        super().__init__(time.monotonic, random.Random(1))
        self.waits = 0

    def wait(self) -> float:
        self.waits += 1
        return 0.02


class PollingPort:
    """A server's polling port that knows agents by their thumbprints; `seen` are those of all who came."""

    def __init__(self, *known: str) -> None:
        self.known = {identity(name).thumbprint for name in known}
        self.seen: list[str] = []
        self.up: list[Exchange] = []
        self._queues = PollingQueues(FAST)
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def listening(self, tmp_path: Path) -> AsyncIterator[int]:
        spool = Spool(tmp_path / "server-spool")
        spool.create()
        options = ListenerOptions(host="127.0.0.1", role=Role.POLLING_CLIENT, timeouts=FAST)
        listener = Listener(identity("server"), self._is_known, self._serve, spool, options)
        await listener.start()
        try:
            yield listener.port
        finally:
            await listener.aclose()

    def _is_known(self, thumbprint: str) -> bool:
        self.seen.append(thumbprint)
        return thumbprint in self.known

    async def _serve(self, exchange: Exchange, thumbprint: str) -> None:
        await self._now(exchange, up=True)
        try:
            await self._queues.serve(exchange, thumbprint)
        finally:
            await self._now(exchange, up=False)

    async def _now(self, exchange: Exchange, *, up: bool) -> None:
        async with self._changed:
            (self.up.append if up else self.up.remove)(exchange)
            self._changed.notify_all()

    async def has(self, connections: int, came: int = 0) -> None:
        """Waits until there are so many connections, after so many came."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(self.up) == connections and len(self.seen) >= came)

    async def drop(self) -> None:
        """Cuts all connections, and waits until they are gone."""
        for exchange in list(self.up):
            await exchange.stream.aclose()


@asynccontextmanager
async def polling(
    port: PollingPort, tmp_path: Path, connections: int, who: str, fallback: str | None = None
) -> AsyncIterator[tuple[Poller, list[Impatient]]]:
    spool = Spool(tmp_path / "spool")
    spool.create()
    backoffs: list[Impatient] = []

    def make_backoff() -> Backoff:
        backoffs.append(Impatient())
        return backoffs[-1]

    async with port.listening(tmp_path) as number:
        options = PollerOptions(
            Address("127.0.0.1", number, identity("server").thumbprint), SUBSCRIPTION, connections, FAST
        )
        other = identity(fallback) if fallback else None
        calls = Calls(Echo())
        poller = Poller(identity(who), calls, spool, options, fallback=other, make_backoff=make_backoff)
        task = asyncio.create_task(poller.run())
        try:
            yield poller, backoffs
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
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


# Proxies that do not let us through.

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def saying(text: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        await writer.drain()

    return answer


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(saying(b"HTTP/1.1 403 Forbidden\r\n\r\n"), "refused a connection to h:1: HTTP/1.1 403", id="403"),
        pytest.param(saying(b"HTTP/1.1 407 Who are you\r\nA: b\r\n\r\n"), "HTTP/1.1 407 Who are you", id="407"),
        pytest.param(saying(b"HTTP/1.0 \x1b[31m\xff\r\n\r\n"), "HTTP/1.0 ?[31mÿ", id="rubbish"),
        pytest.param(saying(b"HTTP/1.1 403 No\r\n\r\n"), "has to allow CONNECT to that host and port", id="rules"),
        pytest.param(saying(b"HTTP/1.1 429 No\r\n\r\n"), "that the proxy's machine can reach it", id="busy"),
        pytest.param(saying(b"HTTP/1.1 201 Made\r\n\r\n"), "the address of an HTTP proxy", id="201"),
        pytest.param(saying(b"HTTP/1.1 407 No\r\n\r\n"), "correct its user name and password", id="password"),
        pytest.param(saying(b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n"), "offers NTLM", id="NTLM"),
        pytest.param(saying(b"HTTP/1.1 503 No\r\n\r\n"), "that the proxy's machine can reach it", id="server down"),
        pytest.param(saying(b"SSH-2.0 x\r\n\r\n"), "the address of an HTTP proxy", id="something else"),
        pytest.param(saying(b"\0" * 100), "closed the connection or made no sense", id="no HTTP"),
        pytest.param(saying(b""), "closed the connection or made no sense", id="closed"),
        pytest.param(saying(b"x" * 1_000_000), "closed the connection or made no sense", id="endless"),
        pytest.param(silent, "waited 0.2 s for the answer of the proxy 127.0.0.1:", id="silent"),
    ],
)
async def test_a_proxy_that_says_no_is_told_in_one_line(answer: Answer, said: str) -> None:
    async with talking(answer) as port:
        address = Address("h", 1, "T", Proxy("127.0.0.1", port, "me", PASSWORD))
        with pytest.raises(TentacleError) as caught:
            await dial(address, identity("agent"), Timeouts(proxy_answer=0.2))
    told = f"{caught.value.message} {caught.value.hint}"
    assert said in told
    assert f"127.0.0.1:{port}" in told
    assert "\n" not in told
    assert PASSWORD not in told + repr(caught.value) + repr(address)


async def test_a_proxy_whose_name_leads_nowhere() -> None:
    address = Address("h", 1, "T", Proxy("proxy.invalid", 3128))
    with pytest.raises(NameUnknown, match=r"proxy\.invalid"):
        await dial(address, identity("agent"), FAST)


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("bücher.example", "xn--bcher-kva.example:1"),
        ("octopus.example.", "octopus.example.:1"),
        ("2001:db8::1", "[2001:db8::1]:1"),
    ],
)
async def test_what_a_proxy_is_asked_for(host: str, asked: str) -> None:
    heads: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        heads.append(await reader.read(4096))

    async with talking(note) as port:
        with pytest.raises(TlsFailed):
            await dial(Address(host, 1, "T", Proxy("127.0.0.1", port)), identity("agent"), FAST)
    assert heads[0].decode().splitlines()[:2] == [f"CONNECT {asked} HTTP/1.0", f"Host: {asked}"]
    name = asked.rpartition(":")[0].rstrip(".").encode()
    assert (name in heads[1]) is not asked.startswith("["), "the name goes into the TLS greeting, an address does not"
    assert name + b"." not in heads[1]


@pytest.mark.parametrize("host", ["a b", "a\r\nX: y", "a..b", "x" * 64, ".octopus", "ä" * 64])
@pytest.mark.parametrize("proxied", [True, False])
async def test_a_name_that_no_host_has_is_told_in_one_line(host: str, proxied: bool) -> None:
    address = Address("octopus.invalid" if proxied else host, 1, "T", Proxy(host, 3128) if proxied else None)
    with pytest.raises(NameUnknown, match="is not a host name"):
        await dial(address, identity("agent"), FAST)
