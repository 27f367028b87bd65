"""The names of log levels in the original, and the numbers that Python's logging has for them.

Knows nothing of files, streams or configuration.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

TRACE = 5
OFF = logging.CRITICAL + 50
LEVEL_VARIABLE = "OCTOPUS__TENTACLE__LOGLEVEL"

_BY_NAME = {
    "Trace": TRACE,
    "Debug": logging.DEBUG,
    "Info": logging.INFO,
    "Warn": logging.WARNING,
    "Error": logging.ERROR,
    "Fatal": logging.CRITICAL,
    "Off": OFF,
}


DEFAULT = "default"
"""In place of a level: that of the start."""
CHOICES = (*(name.lower() for name in _BY_NAME), DEFAULT)


def level_named(name: str) -> int | None:
    """Returns the level of that name, in any case; None where there is none."""
    return next((level for known, level in _BY_NAME.items() if known.lower() == name.strip().lower()), None)


def threshold(environ: Mapping[str, str]) -> int:
    """Returns the lowest level that is shown and written: Info, or the one that `OCTOPUS__TENTACLE__LOGLEVEL` names.

    The name must be spelled exactly (docs/spec/command-line.md, "Log levels").  With any other the default is used: a
    wrong level must not keep a worker from starting.
    """
    return _BY_NAME.get(environ.get(LEVEL_VARIABLE, ""), logging.INFO)


def syslog_priority(level: int) -> int:
    """Returns the priority that systemd's journal and syslog have for a level: 7 debug to 2 critical (syslog(3))."""
    for priority, at_least in ((2, logging.CRITICAL), (3, logging.ERROR), (4, logging.WARNING), (6, logging.INFO)):
        if level >= at_least:
            return priority
    return 7


def short_name(level: int) -> str:
    """Returns the name in the log file, e.g. `WARN` for levels from warning up to error."""
    if level >= OFF:
        return "OFF"
    for name, at_least in reversed(_BY_NAME.items()):
        if level >= at_least and at_least != OFF:
            return name.upper()
    return "TRACE"
