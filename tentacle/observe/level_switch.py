"""The level of the logs while a program runs: changed for good or for a while, and back again.

Use from one event loop.  Must not know who changes it, or where logs go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tentacle.late_imports import LateModule
from tentacle.observe.levels import short_name

if TYPE_CHECKING:
    import asyncio
else:  # which most commands never need
    asyncio = LateModule("asyncio")

log = logging.getLogger(__name__)


class LevelSwitch:
    """At `base` until it is changed; `apply` puts a level in force."""

    def __init__(self, base: int, apply: Callable[[int], None]) -> None:
        self._base = base
        self._apply = apply
        self._timer: asyncio.TimerHandle | None = None
        self.level = base
        self.until: float | None = None
        """When it goes back, in seconds since 1970; None: not by itself."""

    def change(self, level: int | None, seconds: float = 0) -> None:
        """To `level`, or back to where it was at the start; after `seconds`, if there are any, it goes back."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.until = None, None
        if level is not None and seconds > 0:
            self.until = time.time() + seconds
            self._timer = asyncio.get_running_loop().call_later(seconds, self.change, None)
        wanted = self._base if level is None else level
        # Told at a level that is shown before, or after, whatever the change is.
        self._tell(wanted, seconds if self.until else 0)

    def _tell(self, wanted: int, seconds: float) -> None:
        self._apply(min(self.level, wanted))
        after = f" for {seconds:g} seconds" if seconds else ""
        log.info("The level of this log is %s%s", short_name(wanted).capitalize(), after)
        self._apply(wanted)
        self.level = wanted
