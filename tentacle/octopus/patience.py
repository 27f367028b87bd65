"""How long to go on trying: growing pauses within a total.

Pure arithmetic on a clock that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0


class Patience:
    """Pauses between attempts, in seconds; together with the attempts themselves they last at most `total`."""

    def __init__(self, total: float, clock: Callable[[], float]) -> None:
        self._left = total
        self._clock = clock
        self._since = clock()
        self._next = FIRST_PAUSE
        self.attempts = 1
        """How many attempts have been made or granted."""

    def pause(self, asked: float | None = None) -> float | None:
        """The pause before one more attempt, at least what the server `asked` for; None when patience is at its end."""
        now = self._clock()
        self._left -= max(0.0, now - self._since)
        self._since = now
        pause = max(self._next, asked or 0.0)
        if pause > self._left:
            return None
        # The pause counts even when the clock stands still, so that no clock makes this endless.
        self._left -= pause
        self._since = now + pause
        self._next = min(self._next * 2, LONGEST_PAUSE)
        self.attempts += 1
        return pause
