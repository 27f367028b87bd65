"""Log records for the person at the terminal: the bare message, errors on standard error, the rest on standard output.

Knows two streams.  Must not know of files or commands.  A reader that went away never stops the program that logs:
an agent whose supervisor closed the pipe keeps working.
"""

from __future__ import annotations

import logging
from typing import TextIO

from tentacle.observe.text import visible


class ConsoleHandler(logging.Handler):
    """Messages only, never a traceback; Info and Warn to stdout, Error and Fatal to stderr (tentacle-cli.md 1.6)."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        super().__init__()
        self._stdout = stdout
        self._stderr = stderr
        self._mute_stdout = False

    def mute_stdout(self) -> None:
        """From now on only errors are shown: the command's own data must stand alone on standard output."""
        self._mute_stdout = True

    def emit(self, record: logging.LogRecord) -> None:
        to_stderr = record.levelno >= logging.ERROR
        if self._mute_stdout and not to_stderr:
            return
        stream = self._stderr if to_stderr else self._stdout
        try:
            stream.write(visible(record.getMessage(), keep="\n\t") + "\n")
            stream.flush()
        except (OSError, ValueError):  # the reader closed the pipe, or the stream is closed at shut-down
            return
