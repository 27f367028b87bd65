"""Removes directories in the background, after the request that moved them to the trash has its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.validation import SCRIPT_FILE

_SOON = 0.005
"""Seconds, enough for the answer to leave and for more directories to be added."""


class TrashRemover:
    """Use from one event loop.  The next agent removes what is left when this one ends."""

    def __init__(self) -> None:
        self._waiting: list[Path] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, path: Path) -> None:
        """Schedules the removal of a directory."""
        self._waiting.append(path)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Waits for the removal that is under way, and drops the others."""
        self._waiting.clear()
        await self.drained()

    async def drained(self) -> None:
        """Returns when nothing is left to remove."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(_SOON)
            batch, self._waiting = self._waiting, []
            # In place: a thread that makes small calls beside a busy loop costs both more than the calls do.
            big = [path for path in batch if not _remove_bare(path)]
            if big:
                await asyncio.to_thread(_remove_all, big)
        self._task = None


def _remove_bare(path: Path) -> bool:
    """Removes a workspace in which the script has left nothing; returns false for any other."""
    try:
        (path / SCRIPT_FILE).unlink(missing_ok=True)
        path.rmdir()
    except OSError:
        return False
    return True


def _remove_all(batch: Sequence[Path]) -> None:
    for path in batch:
        remove_tree(path)
