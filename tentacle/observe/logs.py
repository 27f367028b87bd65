"""Puts the console and the log file under Python's logging for as long as a program runs, and takes them off again.

Knows the handlers of this package.  Must not know which program it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tentacle.observe.console import ConsoleHandler
from tentacle.observe.levels import threshold
from tentacle.observe.logfile import FileLogHandler
from tentacle.observe.redaction import Redactor

PACKAGE_LOGGER = "tentacle"
FILE_ONLY_LOGGER = "tentacle.file_only"
"""What is logged here goes to the log file and never to the console."""


@contextmanager
def logging_to(
    console: ConsoleHandler, file: FileLogHandler, redactor: Redactor, environ: Mapping[str, str]
) -> Iterator[None]:
    """Our own records go to both; other libraries' warnings and errors go to the file only."""
    level = threshold(environ)
    package, root = logging.getLogger(PACKAGE_LOGGER), logging.getLogger()
    for handler in (console, file):
        handler.setLevel(level)
        handler.addFilter(redactor)
    console.addFilter(_not_file_only)
    file.addFilter(_ours_or_serious)
    before = package.level
    package.setLevel(level)
    package.addHandler(console)
    root.addHandler(file)
    try:
        yield
    finally:
        package.removeHandler(console)
        root.removeHandler(file)
        package.setLevel(before)


def _not_file_only(record: logging.LogRecord) -> bool:
    return record.name != FILE_ONLY_LOGGER


def _ours_or_serious(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == PACKAGE_LOGGER or record.levelno >= logging.WARNING
