"""Whether environment variables contribute settings (docs/spec/command-line.md, "Settings from the environment")."""

from __future__ import annotations

from collections.abc import Mapping

SWITCH = "OCTOPUS_CONTRIBUTE_ENV_SETTINGS"


def is_enabled(environ: Mapping[str, str]) -> bool:
    """Whether the environment may contribute settings at all."""
    return environ.get(SWITCH, "").strip().lower() == "true"
