"""Whether changes to a configuration hold at once, or after a restart of the agent that runs with it.

Knows what a running agent takes up by itself, from the agent's own rule.  Must not know which command made the changes.
Settings and agent are imported where they are used: `version` and `help` answer without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from tentacle.errors import TentacleError
from tentacle.records import dataclass

if TYPE_CHECKING:
    from tentacle.settings.model import Settings
    from tentacle.settings.store import SettingsFile


class Effect(Enum):
    """When changes hold: there are none, the running agent takes them up by itself, or it has to be restarted."""

    UNCHANGED = auto()
    AT_ONCE = auto()
    AFTER_RESTART = auto()


@dataclass(frozen=True)
class InstanceSnapshot:
    """An instance as a command found it: its settings, and the process of its agent; None when no agent ran.

    `home` is the directory that the agent holds.
    """

    file: SettingsFile
    settings: Settings
    home: Path
    agent: int | None

    @classmethod
    def take(cls, file: SettingsFile, settings: Settings, home: Path) -> InstanceSnapshot:
        """What is so now."""
        return cls(file, settings, home, _agent_of(home))

    def effect(self, environ: Mapping[str, str], *, voted: bool) -> Effect:
        """The effect of what has been changed since.

        Where no agent has run all the while, the original's rule holds: a restart is needed where a command `voted` for
        one, that is, changed what an agent reads when it starts.
        """
        from tentacle.agent.plan import make_plan
        from tentacle.agent.reload import change

        if self.agent is None or _agent_of(self.home) != self.agent:
            return Effect.AFTER_RESTART if voted else Effect.UNCHANGED
        try:
            now = self.file.load()
            if now == self.settings:
                return Effect.UNCHANGED
            waiting = change(self.settings, now, make_plan(self.settings, environ), environ).waiting
        except TentacleError:
            # The agent cannot use these settings, and goes on with what it has.
            return Effect.AFTER_RESTART
        return Effect.AFTER_RESTART if waiting else Effect.AT_ONCE


def _agent_of(home: Path) -> int | None:
    from tentacle.agent.lock import holder

    with suppress(OSError):
        return holder(home)
    return None
