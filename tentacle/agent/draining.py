"""The switch by which an operator keeps new scripts away from a running agent, in this agent and in the next ones.

Knows the engine and the file in the home.  Must not know who asked.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from tentacle.agent.drain import Drain, begin_drain, end_drain, read_drain
from tentacle.errors import TentacleError, one_line
from tentacle.scripts.engine import ScriptEngine
from tentacle.services.errors import DrainingAgent

log = logging.getLogger(__name__)


class DrainSwitch:
    """On while `drain` is not None.  An agent that ends refuses scripts for a reason of its own: `close` it then."""

    def __init__(self, home: Path, engine: ScriptEngine) -> None:
        self._home = home
        self._engine = engine
        self._closed = False
        self.drain: Drain | None = None

    def take_up(self) -> None:
        """Is on if an earlier agent's was, or a command has asked for it while there was none."""
        try:
            self.drain = read_drain(self._home)
        except OSError as error:
            log.warning("Whether this agent should drain cannot be seen: %s", one_line(error))
        if self.drain is not None:
            self._refuse(self.drain)

    def begin(self, by: str, reason: str) -> Drain:
        """Refuses new scripts from now on.  Raises `TentacleError`."""
        self._require_open()
        before, self.drain = self.drain, begin_drain(self._home, Drain(time.time(), by, reason))
        if self.drain != before:
            self._refuse(self.drain)
        return self.drain

    def end(self) -> bool:
        """Takes new scripts again; returns whether they were refused.  Raises `TentacleError`."""
        self._require_open()
        ended = end_drain(self._home) or self.drain is not None
        if ended:
            self.drain = self._engine.refusal = None
            log.info("Draining has been ended: new scripts are taken again")
        return ended

    def close(self) -> None:
        """Leaves the switch as it is from now on."""
        self._closed = True

    def _refuse(self, drain: Drain) -> None:
        self._engine.refusal = DrainingAgent()
        log.warning("Draining %s: new scripts are refused until 'tentacle undrain'", drain)

    def _require_open(self) -> None:
        if self._closed:
            raise TentacleError("The agent is about to end.", hint="Try again in a moment.")
