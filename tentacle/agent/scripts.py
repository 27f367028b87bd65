"""The script engine's options, from the settings of an instance: two rooms that do not know each other."""

from __future__ import annotations

from tentacle.scripts.cgroup import Limits
from tentacle.scripts.engine import EngineOptions
from tentacle.scripts.sandbox import IsolationOptions, Mode
from tentacle.scripts.uids import UidRange
from tentacle.settings.scripts import ScriptSettings


def engine_options(settings: ScriptSettings) -> EngineOptions:
    """The options that the settings ask for."""
    isolation = IsolationOptions(
        mode=Mode(settings.isolation),
        limits=Limits(settings.memory_limit, settings.cpu_limit, settings.task_limit),
        uids=UidRange(*settings.uid_range),
    )
    return EngineOptions(isolation=isolation)
