"""How long each of several pages of logs is that are wanted at once.

Counts as a page's bound does: entries by what they cost, not by the bytes of the log.  Must not know whose logs they
are.
"""

from __future__ import annotations

import asyncio
from typing import Any

READ_IN_PLACE = 64 * 1024
"""Bytes of a log that are read at once; a longer part is read in a thread, since each byte of it may be a line."""
_SHORT = 256 * 1024
_SHORT_PAGES = 4 * 1024 * 1024


class Pages:
    """Sees to it that all pages together are little more than two.

    The last page of a task counts until the task ends: an answer takes many times the room until it is packed.
    """

    def __init__(self) -> None:
        self._taken: dict[asyncio.Task[Any], int] = {}

    def size(self, most: int) -> int:
        """Returns the bytes for a page that may have `most`: of two long ones, half of what is left.

        All of it counts, until `took` says what the page has needed.
        """
        task = _current()
        if self._taken.pop(task, None) is None:
            task.add_done_callback(lambda ended: self._taken.pop(ended, None))
        short = min(most, _SHORT, _SHORT_PAGES // (len(self._taken) + 1))
        size = self._taken[task] = max(most - sum(self._taken.values()) // 2, short)
        return size

    def took(self, size: int) -> None:
        """The page of this task has been read."""
        self._taken[_current()] = size


def _current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "pages are for calls, which are tasks"
    return task
