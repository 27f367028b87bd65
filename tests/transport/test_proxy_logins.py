"""Wrong credentials are shown to a proxy seldom, by however many connections."""

from __future__ import annotations

import asyncio
import functools
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tentacle.home_layout import PROXY_REFUSALS, WORK
from tentacle.octopus.proxies import ProxyUrl
from tentacle.transport.address import Address, Proxy
from tentacle.transport.backoff import Backoff
from tentacle.transport.calls import Calls
from tentacle.transport.errors import ProxyLoginRefused
from tentacle.transport.poller import Poller, PollerOptions
from tentacle.transport.proxy_logins import PAUSE, ProxyLogins
from tentacle.transport.proxy_refusals import KeptRefusals
from tentacle.transport.spool import Spool
from tentacle.wire.connect import basic_authorization
from tests.patience import PATIENCE
from tests.pki import identity
from tests.sockets import joined, talking
from tests.transport.harness import FAST, Echo, at_work
from tests.transport.polling_port import SUBSCRIPTION, PollingPort

LOGIN = f"Proxy-Authorization: {basic_authorization('me', 'right')}".encode()


class Eager(Backoff):
    def __init__(self) -> None:
        super().__init__(time.monotonic, random.Random(1))

    def wait(self) -> float:
        return 0.001


class StrictProxy:
    """A proxy that wants `LOGIN`; `refused` holds when it has refused another one, by the loop's clock."""

    def __init__(self) -> None:
        self.refused: list[float] = []
        self.changed = asyncio.Condition()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if LOGIN not in head:
            async with self.changed:
                self.refused.append(asyncio.get_running_loop().time())
                self.changed.notify_all()
            writer.write(b"HTTP/1.1 407 Who are you\r\n\r\n")
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await joined(reader, writer, "127.0.0.1", int(head.split(b" ")[1].rpartition(b":")[2]))

    async def has_refused(self, times: int) -> None:
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(lambda: len(self.refused) >= times)


@asynccontextmanager
async def polling(tmp_path: Path, through: int, to: int, password: str, logins: ProxyLogins) -> AsyncIterator[Poller]:
    spool = Spool(tmp_path / "spool")
    spool.create()
    address = Address("127.0.0.1", to, identity("server").thumbprint, Proxy("127.0.0.1", through, "me", password))
    options = PollerOptions(address, SUBSCRIPTION, 5, FAST)
    poller = Poller(identity("agent"), Calls(Echo()), spool, options, make_backoff=Eager, logins=logins)
    async with at_work(poller):
        yield poller


async def test_wrong_credentials_are_tried_once_in_a_while_by_all_connections_together(tmp_path: Path) -> None:
    proxy, logins = StrictProxy(), ProxyLogins(pause=0.5)
    async with (
        talking(proxy.talk) as port,
        polling(tmp_path, port, 1, "wrong", logins),
        polling(tmp_path, port, 2, "wrong", logins),
    ):
        await proxy.has_refused(4)
    moments = proxy.refused[:4]
    assert all(later - earlier > 0.4 for earlier, later in pairwise(moments)), moments


async def test_others_that_are_set_are_tried_at_once_and_let_all_connections_in(tmp_path: Path) -> None:
    proxy, logins, server = StrictProxy(), ProxyLogins(), PollingPort("agent")
    async with talking(proxy.talk) as port, server.listening(tmp_path) as number:
        async with polling(tmp_path, port, number, "wrong", logins):
            await proxy.has_refused(1)
        async with polling(tmp_path, port, number, "right", logins):
            await server.has(5)
    assert len(proxy.refused) == 1


async def test_who_is_let_in_again_is_not_held_up(tmp_path: Path) -> None:
    logins = ProxyLogins(pause=0.1)
    with pytest.raises(ProxyLoginRefused):
        async with logins.turn("me"):
            raise ProxyLoginRefused("no")
    began = asyncio.get_running_loop().time()
    async with logins.turn("me"):
        assert asyncio.get_running_loop().time() - began > 0.09
    logins.pause = 1000
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            async with logins.turn("me"):
                pass


async def test_one_that_is_cancelled_while_it_waits_leaves_the_turn_to_others() -> None:
    logins = ProxyLogins(pause=0.2)
    with pytest.raises(ProxyLoginRefused):
        async with logins.turn("me"):
            raise ProxyLoginRefused("no")

    async def take() -> None:
        async with logins.turn("me"):
            pass

    waiting = asyncio.create_task(take())
    await asyncio.sleep(0)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(PATIENCE):
        await take()


def kept(tmp_path: Path, clock: Callable[[], float] = time.time) -> KeptRefusals:
    (tmp_path / WORK).mkdir(exist_ok=True)
    return KeptRefusals(tmp_path, clock)


async def test_what_was_refused_is_not_tried_by_the_next_process_but_another_login_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy, server = StrictProxy(), PollingPort("agent")

    async def until(true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def said(times: int) -> bool:
        return caplog.text.count("refused this login before this agent") == times

    async with talking(proxy.talk) as port, server.listening(tmp_path) as number:
        async with polling(tmp_path, port, number, "wrong", ProxyLogins(refusals=kept(tmp_path))):
            await until(lambda: kept(tmp_path).left(Proxy("127.0.0.1", port, "me", "wrong")))
        for life in range(1, 4):
            async with polling(tmp_path, port, number, "wrong", ProxyLogins(refusals=kept(tmp_path))):
                await until(functools.partial(said, life))
        async with polling(tmp_path, port, number, "right", ProxyLogins(refusals=kept(tmp_path))):
            await server.has(5)
    assert len(proxy.refused) == 1
    written = (tmp_path / WORK / PROXY_REFUSALS).read_text()
    assert not any(text in written for text in ("wrong", '"me"', "127.0.0.1"))
    assert (tmp_path / WORK / PROXY_REFUSALS).stat().st_mode & 0o777 == 0o600


async def test_who_only_looks_is_told_and_does_not_ask(tmp_path: Path) -> None:
    login = Proxy("p", 1, "me", "wrong")
    kept(tmp_path).refused(login)
    logins, asked = ProxyLogins(pause=math.inf, refusals=kept(tmp_path)), False
    with pytest.raises(ProxyLoginRefused, match=r"refused this login before.*in 10 minute"):
        async with logins.turn(login):
            asked = True
    assert not asked


def test_a_refusal_is_forgotten_after_the_pause_and_when_the_clock_was_wrong(tmp_path: Path) -> None:
    now = [1000.0]
    refusals, login = kept(tmp_path, lambda: now[0]), Proxy("p", 1, "me", "wrong")
    refusals.refused(login)
    assert refusals.left(login) == refusals.left(ProxyUrl("p", 1, "me", "wrong")) == PAUSE
    now[0] += PAUSE - 1
    assert (refusals.left(login), refusals.left(Proxy("p", 2, "me", "wrong"))) == (1.0, 0.0)
    for now[0] in (1000.0 + PAUSE, 999.0):
        assert refusals.left(login) == 0


@pytest.mark.parametrize("content", [b"", b"[]", b"{" * 9000, b'{"key": 3, "refused": []}', b"\xff", b"x" * 20_000])
def test_a_file_that_nobody_understands_counts_as_none(tmp_path: Path, content: bytes) -> None:
    refusals, login = kept(tmp_path), Proxy("p", 1, "me", "wrong")
    (tmp_path / WORK / PROXY_REFUSALS).write_bytes(content)
    assert refusals.left(login) == 0
    refusals.refused(login)
    assert refusals.left(login) > 0
