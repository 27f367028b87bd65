"""Where log records go while a program runs: the console, in a form for people, and the log file.

Knows two streams, and the handler of the log file.  Must not know which program runs, or its commands.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TextIO

from tentacle.observe.json_lines import JsonFormatter, note_work
from tentacle.observe.level_switch import LevelSwitch
from tentacle.observe.levels import syslog_priority, threshold
from tentacle.observe.logfile import FileLogHandler
from tentacle.observe.redaction import Redactor
from tentacle.observe.text import visible

PACKAGE_LOGGER: Final = "tentacle"
FILE_ONLY_LOGGER: Final = "tentacle.file_only"
"""Records of this logger go to the log file and never to the console."""
JOURNAL_VARIABLE: Final = "JOURNAL_STREAM"
"""Set by systemd where an output of a service is a stream of the journal: its device and inode (systemd.exec(5))."""


class ConsoleHandler(logging.Handler):
    """Messages only, never a traceback; Info and Warn to stdout, Error and Fatal to stderr (docs/spec/command-line.md,
    "Standard output and standard error").

    A stream that is `journal`, the one of systemd's journal, is told the priority of each line.  An agent goes on when
    the reader of a stream closes it.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO, journal: str = "") -> None:
        super().__init__()
        self._stdout = stdout
        self._stderr = stderr
        self._journals = [stream for stream in (stdout, stderr) if journal and _identity(stream) == journal]
        self._mute_stdout = False
        self._json: JsonFormatter | None = None

    def speak_json(self) -> None:
        """Writes one JSON object a line from now on."""
        self._json = JsonFormatter()

    def mute_stdout(self) -> None:
        """Shows nothing but errors from now on: a command's own data must stand alone on standard output."""
        self._mute_stdout = True

    def emit(self, record: logging.LogRecord) -> None:
        to_stderr = record.levelno >= logging.ERROR
        if self._mute_stdout and not to_stderr:
            return
        stream = self._stderr if to_stderr else self._stdout
        text = self._json.format(record) if self._json else visible(record.getMessage(), keep="\n\t")
        if stream in self._journals:
            prefix = f"<{syslog_priority(record.levelno)}>"
            text = prefix + text.replace("\n", f"\n{prefix}")
        try:
            stream.write(text + "\n")
            stream.flush()
        except (OSError, ValueError):  # The reader closed the pipe, or the stream is closed at the end.
            return


def _identity(stream: TextIO) -> str:
    """Device and inode of what a stream writes to, as `JOURNAL_VARIABLE` has them; empty where there are none."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return ""
    return f"{status.st_dev}:{status.st_ino}"


@contextmanager
def logging_to(
    console: ConsoleHandler, file: FileLogHandler, redactor: Redactor, environ: Mapping[str, str]
) -> Iterator[LevelSwitch]:
    """Sends our own records to both handlers, and other libraries' warnings and errors to the file.

    Yields what changes the level.

    Python's logging is as before when the block ends.
    """
    level = threshold(environ)
    package, root = logging.getLogger(PACKAGE_LOGGER), logging.getLogger()
    for handler in (console, file):
        handler.setLevel(level)
        handler.addFilter(note_work)
        handler.addFilter(redactor)
    console.addFilter(lambda record: record.name != FILE_ONLY_LOGGER)
    file.addFilter(lambda record: record.name.partition(".")[0] == PACKAGE_LOGGER or record.levelno >= logging.WARNING)
    before = package.level
    noted = logging._srcfile, logging.logThreads, logging.logMultiprocessing
    # No layout shows the line of code that logs; to find it takes a third of a record's time.
    logging._srcfile, logging.logThreads, logging.logMultiprocessing = None, False, False
    package.setLevel(level)
    package.addHandler(console)
    root.addHandler(file)

    def apply(wanted: int) -> None:
        for one in (console, file, package):
            one.setLevel(wanted)

    try:
        yield LevelSwitch(level, apply)
    finally:
        package.removeHandler(console)
        root.removeHandler(file)
        file.close()
        package.setLevel(before)
        logging._srcfile, logging.logThreads, logging.logMultiprocessing = noted
