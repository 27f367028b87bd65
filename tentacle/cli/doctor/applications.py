"""The directory into which steps put the packages that they deploy: whether the agent's user may make it.

Must not know any server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from tentacle.cli.doctor.examined import ExaminedInstance
from tentacle.cli.doctor.finding import Finding, warn
from tentacle.disk import user_name


def applications(instance: ExaminedInstance) -> Sequence[Finding]:
    """Whether the agent's user may make the directory for applications: where none is set it is below /home."""
    if instance.settings is None or instance.config is None or instance.config.stat().st_uid != os.geteuid():
        return []
    path = instance.settings.application_directory
    there = next((one for one in (path, *path.parents) if os.path.isdir(one)), path)  # noqa: PTH112
    found = f"{user_name(os.geteuid())} may not write {path}, where steps put the packages that they deploy"
    advice = f"tentacle configure{instance.option} --app=DIRECTORY, then restart the agent"
    return [] if os.access(there, os.W_OK | os.X_OK) else [warn("applications", found, advice)]
