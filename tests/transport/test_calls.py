"""A request is worked out to its end, whatever becomes of its connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from tentacle.transport.calls import Calls
from tentacle.wire.messages import Request, Response
from tests.patience import PATIENCE
from tests.transport.harness import Echo, address, caller, listening_agent, request


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
        await asyncio.wait_for(finished.wait(), PATIENCE)


async def test_the_end_waits_until_the_answers_have_been_sent() -> None:
    async def answered(_request: Request, _files: object) -> tuple[Response, dict[UUID, object]]:
        raise AssertionError("not called")

    calls = Calls(answered)  # type: ignore[arg-type]
    with calls.owing():
        ending = asyncio.create_task(calls.aclose(PATIENCE))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not ending.done()
    await ending
