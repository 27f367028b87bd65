"""The script engine's options, from the settings of an instance and from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from tentacle.agent.housekeeping import duration_from
from tentacle.scripts.engine import EngineOptions
from tentacle.scripts.sandbox.cgroups import ScriptLimits
from tentacle.scripts.sandbox.sandbox import Mode, SandboxOptions
from tentacle.scripts.sandbox.uids import UidRange
from tentacle.settings.scripts import ScriptSettings

GRACE_VARIABLE = "TENTACLE_CANCEL_GRACE"
_DEFAULT_GRACE = timedelta(seconds=EngineOptions().cancel_grace)


def engine_options(
    settings: ScriptSettings, environment: Mapping[str, str], applications: Path | None = None
) -> EngineOptions:
    """The options that the settings and the environment ask for.  Scripts deploy to the directory `applications`."""
    grace = duration_from(environment, GRACE_VARIABLE, _DEFAULT_GRACE)
    sandbox = SandboxOptions(
        mode=Mode(settings.sandbox),
        limits=ScriptLimits(settings.memory_limit, settings.cpu_limit, settings.task_limit),
        uids=UidRange(*settings.uid_range),
        applications=applications,
    )
    return EngineOptions(sandbox=sandbox, cancel_grace=grace.total_seconds(), try_out=True)
