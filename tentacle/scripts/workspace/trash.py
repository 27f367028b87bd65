"""Removes what has been put away, after the caller who waited for that has its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tentacle.scripts.workspace.removal import remove_small, remove_tree


class TrashRemover:
    """Use from one event loop.  What it has not removed when the agent ends, the next agent's first sweep removes."""

    def __init__(self) -> None:
        self._waiting: list[Path] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, path: Path) -> None:
        """Has a directory removed soon."""
        self._waiting.append(path)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Ends with the directory that is being removed."""
        self._waiting.clear()
        await self.drained()

    async def drained(self) -> None:
        """Returns when there is nothing left to remove."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(_remove_all, batch)
        self._task = None


def _remove_all(batch: Sequence[Path]) -> None:
    for path in batch:
        if not remove_small(path):
            remove_tree(path)
