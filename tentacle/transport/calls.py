"""Runs the handler for every request, to its end, even when the connection of the request has gone.

The original never ties a call to its connection either (docs/spec/services.md, "Calls and connections"): a script that
was asked for is started, whether or not the connection breaks at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, BinaryIO, TypeVar
from uuid import UUID

from tentacle.transport.exchange import Handler, Received
from tentacle.wire.call_context import CallContext
from tentacle.wire.generations import Generation
from tentacle.wire.messages import Request, Response

T = TypeVar("T")
Files = Mapping[UUID, BinaryIO]
Pack = Callable[[Response], Awaitable[T]]


class Calls:
    """Runs the handler for the requests of all connections, and waits at the end for those under way."""

    def __init__(self, handler: Handler, is_immediate: Callable[[Request], bool] = lambda _: False) -> None:
        """`is_immediate` says of a request that its handler changes nothing and waits for nothing."""
        self._handler = handler
        self._is_immediate = is_immediate
        self._running: set[asyncio.Task[Any]] = set()
        self._owed: set[asyncio.Future[None]] = set()
        self.seen: dict[str, Generation] = {}
        """What the last request of each peer showed of it, by its thumbprint."""

    def __len__(self) -> int:
        return len(self._running)

    async def answer(
        self, request: Request, received: Received, context: CallContext, pack: Pack[T]
    ) -> tuple[T, Files]:
        """Returns what `pack` makes of the handler's answer, and the files of its data streams.

        When this is cancelled, as the connection has gone, the handler goes on.  A task of its own does the whole, so
        that who reads much for an answer knows by the end of the task that it is packed.  An immediate call has none,
        which would take two turns of the loop.
        """
        if self._is_immediate(request):
            return await self._run(request, received, context, pack)
        return await self.finish(self._run(request, received, context, pack), _close_files)

    async def finish(self, work: Coroutine[Any, Any, T], unwanted: Callable[[T], None] = lambda _: None) -> T:
        """Returns what `work` does.  When this is cancelled, it goes on, and its result is `unwanted`."""
        answered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(_carry_out(work, answered, unwanted))
        self._running.add(task)
        task.add_done_callback(partial(self._on_ended, answered))
        try:
            # The task itself tells its result: `asyncio.shield` would take one more turn of the loop for each call.
            return await answered
        except asyncio.CancelledError:
            if answered.done() and not answered.cancelled() and answered.exception() is None:
                unwanted(answered.result())
            raise

    def _on_ended(self, answered: asyncio.Future[Any], task: asyncio.Task[None]) -> None:
        """Tells why there is no result, if somebody still waits for one."""
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if answered.done():
            return
        if error is None:
            answered.cancel()
        else:
            answered.set_exception(error)

    @contextmanager
    def owing(self) -> Iterator[None]:
        """From the request until its answer has been sent, or cannot be: `aclose` waits for that, too."""
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owed.add(sent)
        try:
            yield
        finally:
            self._owed.discard(sent)
            sent.cancel()

    async def aclose(self, timeout: float) -> None:
        """Waits until the calls under way are answered, up to `timeout` seconds, then cancels them."""
        under_way: list[asyncio.Future[Any]] = [*self._running, *self._owed]
        if under_way:
            await asyncio.wait(under_way, timeout=timeout)
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self, request: Request, received: Received, context: CallContext, pack: Pack[T]) -> tuple[T, Files]:
        try:
            response, files = await self._handler(request, received.files, context)
        finally:
            received.release()
        with ExitStack() as undo:
            for file in files.values():
                undo.callback(file.close)
            packed = await pack(response)
            undo.pop_all()
        return packed, files


def _close_files(answer: tuple[Any, Files]) -> None:
    for file in answer[1].values():
        file.close()


async def _carry_out(work: Coroutine[Any, Any, T], answered: asyncio.Future[T], unwanted: Callable[[T], None]) -> None:
    result = await work
    if answered.done():
        unwanted(result)
    else:
        answered.set_result(result)
