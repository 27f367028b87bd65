"""How many runs there are of each kind, at one moment.  Numbers only.  Reads and changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from typing import Final

from tentacle.records import dataclass
from tentacle.scripts.run import Run
from tentacle.scripts.workspace.run_directory import RunDirectory

UNDELIVERED: Final = "undelivered"
_MOST: Final = 10_000


class LeftResults:
    """Results that an earlier agent has left in `runs`: an engine does not open them before somebody asks."""

    def __init__(self, runs: RunDirectory) -> None:
        self._runs = runs
        self._ended: dict[str, float] = {}

    def look(self) -> None:
        """Opens each run once, for a thread of its own."""
        found: dict[str, float] = {}
        for name in self._runs.names():
            looked = self._runs.look(name) if name not in found else None
            if looked is not None and looked[1].result is not None:
                found[name] = looked[1].result.ended / 1000
            if len(found) >= _MOST:
                break
        self._ended = found

    def times(self, besides: Container[str]) -> list[float]:
        """When those ended that are still there, in seconds since 1970, without the runs that are known otherwise."""
        ended = self._ended
        for name in [name for name in ended if not self._runs.exists(name)]:
            del ended[name]
        return [at for name, at in ended.items() if name not in besides]


@dataclass(frozen=True)
class Census:
    """The runs that are not completed, by their step, or as `UNDELIVERED` when they have ended; the bytes of the logs
    that still grow; when the first of the undelivered ended, in seconds since 1970.
    """

    states: Mapping[str, int]
    log_bytes: int
    oldest: float | None

    @classmethod
    def of(cls, kept: Collection[Run], completed: Collection[Run], left: Sequence[float]) -> Census:
        """Of the runs that are `kept`, of those that were `completed` before their end, and of results that were `left`
        by an earlier agent, by their times.
        """
        growing = [run for run in (*kept, *completed) if run.result is None]
        ended = [*left, *(run.result.ended / 1000 for run in kept if run.result is not None)]
        states = Counter(run.step.value for run in growing)
        states[UNDELIVERED] += len(ended)
        return cls(states, sum(run.files.log_size() for run in growing), min(ended, default=None))
