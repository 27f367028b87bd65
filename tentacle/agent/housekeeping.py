"""What an agent does on a clock: the heartbeat file; and how such times are read from the environment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from tentacle.contracts.timespan import parse_timespan

log = logging.getLogger(__name__)

HEARTBEAT_FILE = "livez.heartbeat"
HEARTBEAT_SECONDS = 10.0


async def beat(home: Path) -> None:
    """Touches `HOME/livez.heartbeat` for ever (tentacle-services.md 5.2)."""
    failing = False
    while True:
        try:
            (home / HEARTBEAT_FILE).touch()
        except OSError as error:
            if not failing:
                log.warning("Could not write %s: %s", home / HEARTBEAT_FILE, error.strerror)
            failing = True
        else:
            failing = False
        await asyncio.sleep(HEARTBEAT_SECONDS)


def timespan_from(environment: Mapping[str, str], name: str, default: timedelta) -> timedelta:
    """A time span from an environment variable; the default when there is none or it makes no sense."""
    text = environment.get(name, "")
    if not text.strip():
        return default
    try:
        span = parse_timespan(text)
    except ValueError as error:
        log.warning("The environment variable %s is ignored: %s", name, error)
        return default
    if span < timedelta(0):
        log.warning("The environment variable %s is ignored: %s is less than nothing", name, text.strip())
        return default
    return span
