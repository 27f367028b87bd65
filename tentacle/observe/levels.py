"""The names of log levels, as operators of the original write them, and what Python's logging calls them.

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


def threshold(environ: Mapping[str, str]) -> int:
    """The lowest level that is shown and written: Info, or what `OCTOPUS__TENTACLE__LOGLEVEL` names.

    The name must be spelled exactly (tentacle-cli.md 1.1); anything else leaves the default, because a worker
    must not fail to start over its verbosity.
    """
    return _BY_NAME.get(environ.get(LEVEL_VARIABLE, ""), logging.INFO)


def short_name(level: int) -> str:
    """The upper-case name that stands in the log file, e.g. `WARN` for everything from warning up to error."""
    for name, at_least in reversed(_BY_NAME.items()):
        if level >= at_least and at_least != OFF:
            return name.upper()
    return "TRACE"
