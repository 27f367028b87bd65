"""How long to wait before dialling again: the longer it has failed, the longer, and not the same for two agents."""

from __future__ import annotations

import random
from collections.abc import Callable

SHORTEST = 5.0
LONGEST = 120.0


def delay(elapsed: float, multiplier: float, shortest: float = SHORTEST, longest: float = LONGEST) -> float:
    """The original's rule (docs/spec/wire.md, "Reconnect delays"): the time since the first failed attempt, times a
    factor, within bounds.
    """
    return min(max(elapsed * (1 + multiplier), shortest), longest)


class Backoff:
    """One polling loop's waits.  `clock` returns seconds that never run backwards.

    After a connection that worked, the first wait is short: the server was there a moment ago.  It is random, so that
    not all agents return at once to a server that comes back.
    """

    def __init__(self, clock: Callable[[], float], chance: random.Random) -> None:
        self._clock = clock
        self._chance = chance
        self._multiplier = chance.random()
        self._since: float | None = None
        self._worked = False

    def attempt(self) -> None:
        """An attempt begins."""
        if self._since is None:
            self._since = self._clock()

    def success(self) -> None:
        """The peer is there: it has identified itself, to this loop or to another one."""
        self._since = None
        self._worked = True

    def wait(self) -> float:
        """Seconds to wait now, after an attempt or a connection has failed."""
        if self._worked:
            self._worked = False
            return self._chance.uniform(0.5, 2.0)
        elapsed = 0.0 if self._since is None else self._clock() - self._since
        return delay(elapsed, self._multiplier)
