"""A request is worked out to its end, whatever becomes of its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tentacle.transport.calls import Calls
from tentacle.transport.exchange import Answer, Received
from tentacle.wire.call_context import NOBODY, CallContext, Wire
from tentacle.wire.events import RequestEvent
from tentacle.wire.messages import Request, Response
from tests.patience import PATIENCE
from tests.pki import identity
from tests.transport.harness import (
    SUBSCRIPTION,
    Echo,
    address,
    caller,
    listening_agent,
    polling_agent,
    polling_server,
    request,
)


async def test_a_call_is_worked_out_although_its_connection_has_gone(tmp_path: Path) -> None:
    finished = asyncio.Event()
    echo = Echo()
    echo.hold = asyncio.Event()

    class Slow(Echo):
        async def __call__(self, request: Request, files: Mapping[UUID, Path], context: CallContext) -> Answer:
            await echo(request, {}, context)
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
        await asyncio.wait_for(finished.wait(), PATIENCE)


@pytest.mark.parametrize("immediate", [True, False])
async def test_an_immediate_call_needs_no_task_of_its_own(immediate: bool) -> None:
    async def handler(request: Request, _files: Mapping[UUID, Path], _context: CallContext) -> Answer:
        tasks.add(asyncio.current_task())
        return Response(request.id), {}

    async def pack(response: Response) -> str:
        return response.id

    tasks = set[asyncio.Task[Any] | None]()
    calls = Calls(handler, lambda _: immediate)
    packed, files = await calls.answer(request(1), Received(RequestEvent(request(1))), NOBODY, pack)
    assert (packed, files) == (request(1).id, {})
    assert (tasks == {asyncio.current_task()}) is immediate


async def test_a_call_to_a_listening_agent_says_who_makes_it_and_from_where(tmp_path: Path) -> None:
    echo = Echo()
    async with listening_agent(tmp_path, echo) as agent, caller(tmp_path) as server:
        await server.call(address(agent), request(1), {})
        (context,) = echo.contexts
        host, _, port = context.address.rpartition(":")
        assert (context.thumbprint, context.wire) == (identity("server").thumbprint, "halibut")
        assert (host, int(port) > 0, context.trace_parent) == ("127.0.0.1", True, None)


async def test_a_call_of_a_polled_server_is_one_of_the_server_that_was_dialled(tmp_path: Path) -> None:
    echo = Echo()
    async with (
        polling_server(tmp_path) as (listener, queues),
        polling_agent(tmp_path, listener.port, echo),
    ):
        port = listener.port
        await queues.call(SUBSCRIPTION, request(1), {})
    server = CallContext(identity("server").thumbprint, f"127.0.0.1:{port}", Wire.HALIBUT)
    assert echo.contexts == [server]


async def test_the_end_waits_until_the_answers_have_been_sent() -> None:
    async def answered(_request: Request, _files: object, _context: CallContext) -> tuple[Response, dict[UUID, object]]:
        raise AssertionError("not called")

    calls = Calls(answered)  # type: ignore[arg-type]
    with calls.owing():
        ending = asyncio.create_task(calls.aclose(PATIENCE))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not ending.done()
    await ending


@pytest.mark.parametrize("turns", range(1, 6))
async def test_what_was_worked_out_is_returned_or_given_back(turns: int) -> None:
    """Whenever the connection goes: also between the end of the work and the moment that its result is taken."""
    calls, given_back = Calls(_never), list[str]()

    async def work() -> str:
        return "a result"

    answer = asyncio.create_task(calls.finish(work(), given_back.append))
    for _ in range(turns):
        await asyncio.sleep(0)
    answer.cancel()
    (returned,) = await asyncio.gather(answer, return_exceptions=True)
    await calls.aclose(PATIENCE)
    assert [*given_back, *([returned] if isinstance(returned, str) else [])] == ["a result"]


async def test_a_failure_is_told_to_who_waits_and_lost_on_who_does_not() -> None:
    calls = Calls(_never)

    async def work() -> str:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await calls.finish(work())
    waiting = asyncio.create_task(calls.finish(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await calls.aclose(PATIENCE)
    assert waiting.cancelled()


async def _never(_request: Request, _files: Mapping[UUID, Path], _context: CallContext) -> Answer:
    raise AssertionError("not called")
