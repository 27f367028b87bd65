"""Puts what must not be forgotten on the disk, for all who wait for it at once.

One look at the disk takes as long for many as for one, and a thread for each of them would cost more than the look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

Settle = Callable[[], None]
"""Syncs one thing; raises `OSError`."""


class Settling:
    """Use from one event loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Settle, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def settle(self, settle: Settle) -> None:
        """Returns when `settle` has been called, in a thread; raises what it raises."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((settle, done))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        await done

    async def aclose(self) -> None:
        """Waits until nobody waits any more."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            failures = await asyncio.to_thread(_settle_all, [settle for settle, _ in batch])
            for (_, done), failure in zip(batch, failures, strict=True):
                # Whoever waited for it may have been cancelled.
                if done.done():
                    continue
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)
        self._task = None


def _settle_all(batch: Sequence[Settle]) -> list[OSError | None]:
    failures: list[OSError | None] = []
    for settle in batch:
        try:
            settle()
        except OSError as error:
            failures.append(error)
        else:
            failures.append(None)
    return failures
