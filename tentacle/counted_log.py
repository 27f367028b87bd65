"""What the log says of what peers can repeat as often as they like: a line for each kind in a minute, with a count.

Strangers choose how often they come, from which addresses and with which certificates, and a peer that is trusted may
break the protocol again and again.  None of that may decide how much is written: the lines would push out all others.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

log = logging.getLogger(__name__)

MINUTE = 60.0
MOST_KINDS = 16


@dataclass
class _Told:
    """A line was written for this kind; since then `more` have come, the last with `peer`."""

    timer: asyncio.TimerHandle
    level: int
    more: int = 0
    peer: str = ""


class CountedLog:
    """Writes the first line of each kind at once; after each `interval`, in seconds, how many more there were."""

    def __init__(
        self, interval: float = MINUTE, most_kinds: int = MOST_KINDS, counted: str = "connection(s) like this"
    ) -> None:
        self._interval = interval
        self._most_kinds = most_kinds
        self._counted = counted
        self._told: dict[str, _Told] = {}

    def tell(self, level: int, kind: str, peer: str, text: str, error: Exception | None = None) -> bool:
        """Tells `text` of the `peer` at that address, with the traceback of an `error`, or counts it and returns False.

        What is told apart is the `kind`, what happened, without the address; when there are too many, they are one.
        """
        if kind not in self._told and len(self._told) >= self._most_kinds:
            kind = "other kinds"
        if (told := self._told.get(kind)) is not None:
            told.more += 1
            told.peer = peer
            return False
        self._told[kind] = _Told(self._later(kind), level)
        log.log(level, "%s", text, exc_info=error)
        return True

    def aclose(self) -> None:
        """Tells what has not been told yet."""
        for kind, told in self._told.items():
            told.timer.cancel()
            self._sum_up(kind, told)
        self._told.clear()

    def _later(self, kind: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._interval, self._elapsed, kind)

    def _elapsed(self, kind: str) -> None:
        told = self._told.pop(kind)
        if told.more:
            self._sum_up(kind, told)
            self._told[kind] = _Told(self._later(kind), told.level)

    def _sum_up(self, kind: str, told: _Told) -> None:
        if told.more:
            log.log(told.level, "%d more %s, the last with %s: %s", told.more, self._counted, told.peer, kind)
