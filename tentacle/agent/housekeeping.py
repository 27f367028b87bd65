"""The heartbeat: its file, the status file, who wakes with it; and readers of environment variables."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from tentacle.agent.status import AgentStatus, clear_unfinished, tell
from tentacle.contracts.timespan import parse_timespan
from tentacle.home_layout import HEARTBEAT_FILE
from tentacle.scripts.obstacle import Obstacle

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
"""A multiple of all other times after which is looked."""
LOOK_SECONDS = 2.0
"""How often the agent looks whether something has changed."""
LIVELY_SECONDS = 60.0
"""For how long after a change; then it is looked with each heartbeat."""
REFRESH_SECONDS = HEARTBEAT_SECONDS - 0.5
"""How old the file becomes while nothing changes, before it is written again."""
_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(s|m|h|d)?", re.IGNORECASE | re.ASCII)
_SECONDS_IN = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBER = re.compile(r"([0-9]{1,18})\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)


async def beat(home: Path) -> None:
    """Touches `HOME/livez.heartbeat` for ever (docs/spec/command-line.md, "livez")."""
    failing = False
    while True:
        try:
            _touch(home / HEARTBEAT_FILE)
        except OSError as error:
            if not failing:
                log.warning("Could not write %s: %s", home / HEARTBEAT_FILE, error.strerror)
            failing = True
        else:
            failing = False
        await next_beat(HEARTBEAT_SECONDS)


def until_next_beat(seconds: float) -> float:
    """How long it is until the loop's clock is at a multiple of `seconds`.

    All who keep house wait for one, so that they wake together, and an idle agent seldom.
    """
    left = seconds - asyncio.get_running_loop().time() % seconds
    return left if left > seconds / 100 else left + seconds  # a timer may come a moment too early


async def next_beat(seconds: float) -> None:
    """Waits for it."""
    await asyncio.sleep(until_next_beat(seconds))


async def publish(home: Path, current: Callable[[], AgentStatus]) -> None:
    """Keeps the file up to date for ever: soon after a change, and now and then without one."""
    await asyncio.to_thread(clear_unfinished, home)
    last, at, changed, failing = None, 0.0, 0.0, False
    while True:
        status, now = current(), time.monotonic()
        # What changes with every call is not worth a write of its own.
        lasting = dataclasses.replace(status, called=None, last_script=None)
        if lasting != last:
            changed = now
        if lasting != last or now - at >= REFRESH_SECONDS:
            last, at = lasting, now
            failing = not tell(home, status, quiet=failing)
        await next_beat(LOOK_SECONDS if now - changed < LIVELY_SECONDS else HEARTBEAT_SECONDS)


async def look_for_obstacle(obstacle: Obstacle) -> None:
    """Looks for ever whether what kept scripts from running has gone."""
    while True:
        await next_beat(HEARTBEAT_SECONDS)
        if obstacle.reason is not None:
            await obstacle.look()


def stop_beating(home: Path) -> None:
    """Removes the heartbeat: an agent that has ended is not alive, however short a time ago."""
    with suppress(OSError):
        (home / HEARTBEAT_FILE).unlink()


def duration_from(environment: Mapping[str, str], name: str, default: timedelta) -> timedelta:
    """A time from a variable of our own, as people write one: `3` is seconds; `90s`, `5m`, `2h`, `1d`; or `hh:mm:ss`.

    The default when there is none or it makes no sense.
    """
    seconds = seconds_in(environment.get(name, ""))
    return timespan_from(environment, name, default) if seconds is None else timedelta(seconds=seconds)


def seconds_in(text: str) -> float | None:
    """The seconds in `3`, `90s`, `5m`, `2h` or `1d`; None for anything else."""
    found = _SECONDS.fullmatch(text.strip())
    return float(found[1]) * _SECONDS_IN[(found[2] or "s").lower()] if found else None


def _touch(path: Path) -> None:
    """Follows no link: scripts may be allowed to make files in the home.  Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)


def timespan_from(environment: Mapping[str, str], name: str, default: timedelta) -> timedelta:
    """A time span from a variable of the original, as .NET reads it: `hh:mm:ss`, and `3` is days.

    The default when there is none or it makes no sense.
    """
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


def number_from(environment: Mapping[str, str], name: str) -> int | None:
    """A number above zero, such as `500000` or `20G` (K, M, G, T: steps of 1024); `None` when there is none."""
    text = environment.get(name, "").strip()
    if not text:
        return None
    found = _NUMBER.fullmatch(text)
    number = int(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " ") if found else 0
    if number > 0:
        return number
    log.warning("The environment variable %s is ignored: '%s' is not a number such as 500000 or 20G", name, text[:50])
    return None


def choice_from(environment: Mapping[str, str], name: str, choices: Sequence[str]) -> str:
    """One of the choices, case does not matter; the first one when nothing or something else is chosen."""
    text = environment.get(name, "").strip().lower()
    if text and text not in choices:
        log.warning("The environment variable %s is ignored: it is none of %s", name, ", ".join(choices))
    return text if text in choices else choices[0]
