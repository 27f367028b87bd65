"""The order of messages on a connection that is served, in both modes, seen from the other end of a socket."""

from __future__ import annotations

import asyncio
import io
import random
import weakref
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID, uuid4

import pytest

from tentacle.transport.calls import Calls
from tentacle.transport.errors import Disconnected, NotWelcome, TransportError
from tentacle.transport.exchange import Answer, Exchange
from tentacle.transport.serving import say_end, serve_listening, serve_polling
from tentacle.wire.connection import Connection
from tentacle.wire.errors import ProtocolError
from tentacle.wire.events import (
    End,
    Event,
    Identity,
    IdentityKind,
    Next,
    Nothing,
    Preface,
    Proceed,
    RequestEvent,
    ResponseEvent,
)
from tentacle.wire.messages import Request, Response
from tentacle.wire.rules import Role
from tests.patience import PATIENCE
from tests.transport.harness import FAST, SUBSCRIPTION, Echo, request, spool_in, stream_document, two_ends


@asynccontextmanager
async def connected(tmp_path: Path, own: Role, others: Role) -> AsyncIterator[tuple[Exchange, Exchange]]:
    """The end that serves and the one that is served."""
    async with two_ends() as (stream, peer), asyncio.timeout(PATIENCE):
        yield (
            Exchange(stream, Connection(own), FAST, spool_in(tmp_path / "own")),
            Exchange(peer, Connection(others), FAST, spool_in(tmp_path / "others")),
        )


def started(serving: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(serving)


async def next_of(exchange: Exchange) -> Event:
    return (await exchange.receive(30)).event


async def ask(exchange: Exchange, number: int) -> None:
    """Sends a request and gets its answer."""
    await exchange.send(RequestEvent(request(number)))
    event = await next_of(exchange)
    assert isinstance(event, ResponseEvent)
    assert event.response.result == [number]


# Listening.


@pytest.fixture
async def listening(tmp_path: Path) -> AsyncIterator[tuple[Exchange, Exchange]]:
    async with connected(tmp_path, Role.LISTENING_SERVICE, Role.LISTENING_CLIENT) as ends:
        yield ends


async def greet(caller: Exchange) -> None:
    await caller.send(Preface())
    await caller.send(Identity(IdentityKind.CLIENT))
    assert await next_of(caller) == Identity(IdentityKind.SERVER)


@pytest.mark.parametrize("bye", ["end", "close"])
async def test_one_request_after_the_other_until_the_caller_closes(
    listening: tuple[Exchange, Exchange], bye: str
) -> None:
    agent, caller = listening
    serving = started(serve_listening(agent, Calls(Echo())))
    await greet(caller)
    await ask(caller, 1)
    for number in (2, 3):
        await caller.send(Next())
        assert await next_of(caller) == Proceed()
        await ask(caller, number)
    if bye == "end":
        await say_end(caller)
    else:
        await caller.stream.aclose()
    await serving


async def test_a_caller_that_only_looked_is_no_error(listening: tuple[Exchange, Exchange]) -> None:
    agent, caller = listening
    echo = Echo()
    serving = started(serve_listening(agent, Calls(echo)))
    await greet(caller)
    await caller.stream.aclose()
    await serving
    assert echo.requests == []


async def test_nobody_is_told_who_the_agent_is_before_it_was_said_who_asks(
    listening: tuple[Exchange, Exchange],
) -> None:
    agent, caller = listening
    serving = started(serve_listening(agent, Calls(Echo())))
    await caller.send(Preface())
    reading = asyncio.create_task(caller.stream.receive())
    await asyncio.sleep(0.05)
    assert not reading.done()
    await caller.stream.send(b"MX-SUBSCRIBER 1.0 poll://x/\r\n\r\n")
    with pytest.raises(ProtocolError, match="subscriber identity"):
        await serving
    reading.cancel()


class Lines(list[str]):
    """A result of which one can see whether somebody still holds it."""


async def test_an_answer_is_held_as_it_is_sent_only_while_the_caller_does_not_read(
    listening: tuple[Exchange, Exchange],
) -> None:
    """Lines of a log take ten times as much memory as their message."""
    agent, caller = listening
    made: list[weakref.ref[Lines]] = []

    async def answer(request: Request, _files: object, _context: object) -> Answer:
        lines = Lines(random.Random(1).randbytes(100_000).hex() for _ in range(120))
        made.append(weakref.ref(lines))
        return Response(request.id, lines), {}

    serving = started(serve_listening(agent, Calls(answer)))
    await greet(caller)
    await caller.send(RequestEvent(request(1)))
    while agent.waiting_since is None or not made:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert made[0]() is None
    event = await next_of(caller)
    assert isinstance(event, ResponseEvent)
    assert len(event.response.result) == 120
    await caller.stream.aclose()
    await serving


async def test_the_files_of_an_answer_are_closed_even_when_nobody_takes_it(
    listening: tuple[Exchange, Exchange],
) -> None:
    agent, caller = listening
    made: list[BinaryIO] = []
    gone = asyncio.Event()

    async def answer(request: Request, _files: object, _context: object) -> Answer:
        await gone.wait()
        new = uuid4()
        made.append(io.BytesIO(b"data"))
        return Response(request.id, [stream_document(new, 4)]), dict[UUID, BinaryIO]({new: made[0]})

    serving = started(serve_listening(agent, Calls(answer)))
    await greet(caller)
    await caller.send(RequestEvent(request(1)))
    await asyncio.sleep(0.05)
    agent.stream.abort()
    gone.set()
    with pytest.raises(TransportError, match="the connection broke while sending"):
        await serving
    assert [file.closed for file in made] == [True]


# Polling.


@pytest.fixture
async def polling(tmp_path: Path) -> AsyncIterator[tuple[Exchange, Exchange]]:
    async with connected(tmp_path, Role.POLLING_SERVICE, Role.POLLING_CLIENT) as ends:
        yield ends


class Told:
    """How often the agent was told that it is welcome, and whether its connection is wanted."""

    times = 0
    wanted = True

    def __call__(self) -> None:
        self.times += 1


def serve(agent: Exchange, told: Told, echo: Echo | None = None) -> asyncio.Task[None]:
    return started(serve_polling(agent, Calls(echo or Echo()), SUBSCRIPTION, told, lambda: told.wanted))


async def welcome(server: Exchange) -> None:
    assert await next_of(server) == Preface()
    assert await next_of(server) == Identity(IdentityKind.SUBSCRIBER, SUBSCRIPTION)
    await server.send(Identity(IdentityKind.SERVER))


async def test_an_agent_polls_until_the_server_closes(polling: tuple[Exchange, Exchange]) -> None:
    agent, server = polling
    told = Told()
    serving = serve(agent, told)
    assert await next_of(server) == Preface()
    assert told.times == 0
    assert await next_of(server) == Identity(IdentityKind.SUBSCRIBER, SUBSCRIPTION)
    assert told.times == 0, "it is not welcome before it was said so"
    await server.send(Identity(IdentityKind.SERVER))
    for number in range(3):
        if number == 1:
            await server.send(Nothing())
        else:
            await ask(server, number)
        assert await next_of(server) == Next()
        await server.send(Proceed())
    await server.stream.aclose()
    with pytest.raises(Disconnected, match="the server closed the connection"):
        await serving
    assert told.times == 1


@pytest.mark.parametrize("empty", [True, False])
async def test_a_connection_that_is_not_wanted_any_more_ends_after_its_call(
    polling: tuple[Exchange, Exchange], empty: bool
) -> None:
    agent, server = polling
    told = Told()
    serving = serve(agent, told)
    await welcome(server)
    told.wanted = False
    if empty:
        await server.send(Nothing())
    else:
        await ask(server, 1)
    await serving
    await say_end(agent)
    assert await next_of(server) == End(), "nothing was sent before that"


@pytest.mark.parametrize("read", [True, False])
async def test_a_server_that_hangs_up_before_it_says_who_it_is_does_not_welcome_the_agent(
    polling: tuple[Exchange, Exchange], read: bool
) -> None:
    agent, server = polling
    told = Told()
    if not read:
        # With unread bytes, the system of the server resets the connection.
        server.stream.abort()
    serving = serve(agent, told)
    if read:
        assert await next_of(server) == Preface()
        assert await next_of(server) == Identity(IdentityKind.SUBSCRIBER, SUBSCRIPTION)
        await server.stream.aclose()
    with pytest.raises(NotWelcome, match="as soon as it had seen this agent's certificate") as caught:
        await serving
    assert "show-thumbprint" in (caught.value.hint or "")
    assert told.times == 0


async def test_a_request_is_answered_before_anything_else_is_said(polling: tuple[Exchange, Exchange]) -> None:
    agent, server = polling
    echo = Echo()
    echo.hold = asyncio.Event()
    serving = serve(agent, Told(), echo)
    await welcome(server)
    await server.send(RequestEvent(request(7)))
    await echo.entered.wait()
    reading = asyncio.create_task(server.wait_readable())
    await asyncio.sleep(0.05)
    assert not reading.done()
    echo.hold.set()
    await reading
    assert isinstance(await next_of(server), ResponseEvent)
    assert await next_of(server) == Next()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
