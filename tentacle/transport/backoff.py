"""How long to wait before dialling again: the longer it has failed, the longer, and not the same for two agents."""

from __future__ import annotations

import random
from collections.abc import Callable

SHORTEST = 5.0
LONGEST = 120.0
GROWTH = 1.5
"""Of the time since a connection was lost, from one attempt to the next; the first is after a second or two."""
SOONEST = 0.5


def delay(elapsed: float, multiplier: float, shortest: float = SHORTEST, longest: float = LONGEST) -> float:
    """The original's rule (docs/spec/wire.md, "Reconnect delays"): the time since the first failed attempt, times a
    factor, within bounds.
    """
    return min(max(elapsed * (1 + multiplier), shortest), longest)


class Backoff:
    """One polling loop's waits.  `clock` returns seconds that never run backwards.

    After a connection that worked they follow a rule of ours: the server was there a moment ago, and not all its agents
    shall come back at once.  The agent tries when the time since the loss has grown by half again and again, beginning
    at random: so that, of many that have lost it together, about as many try in each second until the last one has.
    """

    def __init__(self, clock: Callable[[], float], chance: random.Random) -> None:
        self._clock = clock
        self._chance = chance
        self._multiplier = chance.random()
        self._since: float | None = None
        self._worked = False
        self._lost: float | None = None

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
            self._worked, self._lost = False, self._clock()
            return float(GROWTH ** self._chance.uniform(0, 2))
        if self._lost is not None:
            return min(max((self._clock() - self._lost) * (GROWTH - 1), SOONEST), LONGEST)
        elapsed = 0.0 if self._since is None else self._clock() - self._since
        return delay(elapsed, self._multiplier)
