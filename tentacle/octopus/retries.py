"""Which failures are worth another attempt, and how long to wait before it: growing pauses within a total.

Pure arithmetic on a clock that is handed in.  Knows nothing of sending, or of which requests may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tentacle.octopus.errors import ConnectionFailed, NameUnresolved, OctopusError
from tentacle.octopus.http_client import HttpResponse
from tentacle.records import dataclass

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
BUSY = frozenset({408, 429, 502, 503, 504})
"""Statuses of a server that asks to come back later."""
BROKEN = frozenset({500, *range(520, 531)})
"""Statuses of a server that failed, or of something in front of it.  Waiting rarely helps."""
FEW_ATTEMPTS = 3
"""How often to try what waiting rarely helps: a name that cannot be resolved, a server that fails."""


@dataclass(frozen=True)
class FailedAttempt:
    """A request that failed with `error`; `response` is None when there was no answer."""

    error: OctopusError
    response: HttpResponse | None = None


class Retries:
    """Pauses between attempts, in seconds; together with the attempts themselves they last at most `total`."""

    def __init__(self, total: float, clock: Callable[[], float]) -> None:
        self._left = total
        self._clock = clock
        self._since = clock()
        self._next = FIRST_PAUSE
        self.attempts = 1
        """How many attempts have been made or granted."""

    def pause_after(self, failed: FailedAttempt) -> float | None:
        """The pause before another attempt, None when there is to be none: see `pause`."""
        status = failed.response.status if failed.response is not None else None
        if failed.response is not None and status in BUSY:
            return self.pause(retry_after(failed.response))
        if isinstance(failed.error, NameUnresolved) or status in BROKEN:
            return self.pause() if self.attempts < FEW_ATTEMPTS else None
        return self.pause() if isinstance(failed.error, ConnectionFailed) else None

    def pause(self, at_least: float | None = None) -> float | None:
        """The pause before another attempt, None when the total does not allow for it."""
        now = self._clock()
        self._left -= max(0.0, now - self._since)
        self._since = now
        pause = max(self._next, at_least or 0.0)
        if pause > self._left:
            return None
        # The pause counts even when the clock stands still, so that no clock makes this endless.
        self._left -= pause
        self._since = now + pause
        self._next = min(self._next * 2, LONGEST_PAUSE)
        self.attempts += 1
        return pause


def retry_after(response: HttpResponse, now: datetime | None = None) -> float | None:
    """The seconds that a server asks to wait; None when it does not ask, or not in a form that can be read.

    The server sends a number, or a date.  The date is compared with the server's own clock, and with ours (`now`) when
    the answer does not show the server's.
    """
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    until = _date(text)
    if until is None:
        return None
    since = _date(response.headers.get("date", "")) or now or datetime.now(UTC)
    return float(max(0, round((until - since).total_seconds())))


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
