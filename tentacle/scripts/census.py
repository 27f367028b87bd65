"""How many runs there are of each kind, at one moment.  Numbers only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from tentacle.scripts.run import Run

UNDELIVERED: Final = "undelivered"


@dataclass(frozen=True)
class Census:
    """The runs that are not completed, by their step, or as `UNDELIVERED` when they have ended; the bytes of the logs
    that still grow; when the first of the undelivered ended, in seconds since 1970.
    """

    states: Mapping[str, int]
    log_bytes: int
    oldest: float | None

    @classmethod
    def of(cls, kept: Collection[Run], completed: Collection[Run]) -> Census:
        """Of the runs that are `kept`, and of those that were `completed` before their end."""
        growing = [run for run in (*kept, *completed) if run.result is None]
        ended = [run.result.ended for run in kept if run.result is not None]
        states = Counter(run.step.value for run in growing)
        states[UNDELIVERED] += len(ended)
        return cls(states, sum(run.files.log_size() for run in growing), min(ended) / 1000 if ended else None)
