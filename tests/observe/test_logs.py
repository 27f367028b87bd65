"""Logging as it is put together: which record goes where, and that nothing stays behind."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import pytest

from tentacle.home_layout import LOG_FILE
from tentacle.observe.logfile import FileLogHandler
from tentacle.observe.logs import FILE_ONLY_LOGGER, ConsoleHandler, logging_to
from tentacle.observe.redaction import Redactor


def test_who_sees_what(tmp_path: Path) -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    file = FileLogHandler()
    file.attach(tmp_path)
    before = (logging.getLogger().handlers[:], logging.getLogger("tentacle").handlers[:])
    with logging_to(ConsoleHandler(stdout, stderr), file, Redactor(["secret"]), {}):
        logging.getLogger("tentacle.agent").info("a secret")
        logging.getLogger("tentacle.agent").debug("too low")
        logging.getLogger(FILE_ONLY_LOGGER).info("for the file")
        logging.getLogger("elsewhere").info("not ours")
        logging.getLogger("elsewhere").warning("their secret")
    logging.getLogger("tentacle.agent").warning("too late")
    assert (logging.getLogger().handlers[:], logging.getLogger("tentacle").handlers[:]) == before
    assert (stdout.getvalue(), stderr.getvalue()) == ("a ********\n", "")
    lines = (tmp_path / LOG_FILE).read_text().splitlines()
    assert [line[45:].strip() for line in lines] == ["a ********", "for the file", "their ********"]


def record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("tentacle.x", level, __file__, 1, message, (), None)


@pytest.mark.parametrize(
    ("level", "out", "err"),
    [
        (logging.INFO, "x\n", ""),
        (logging.WARNING, "x\n", ""),
        (logging.ERROR, "", "x\n"),
        (logging.CRITICAL, "", "x\n"),
    ],
)
def test_errors_go_to_the_one_stream_and_the_rest_to_the_other(level: int, out: str, err: str) -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    ConsoleHandler(stdout, stderr).handle(record(level, "x"))
    assert (stdout.getvalue(), stderr.getvalue()) == (out, err)


def test_a_muted_console_still_shows_errors() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    handler = ConsoleHandler(stdout, stderr)
    handler.mute_stdout()
    handler.handle(record(logging.WARNING, "quiet"))
    handler.handle(record(logging.ERROR, "loud"))
    assert (stdout.getvalue(), stderr.getvalue()) == ("", "loud\n")


def test_a_traceback_is_not_for_the_terminal() -> None:
    stderr = io.StringIO()
    told = record(logging.ERROR, "failed")
    told.exc_info = (ValueError, ValueError("inside"), None)
    ConsoleHandler(io.StringIO(), stderr).handle(told)
    assert stderr.getvalue() == "failed\n"


def test_a_reader_who_left_does_not_matter() -> None:
    from_pipe, to_pipe = os.pipe()
    os.close(from_pipe)
    stream = os.fdopen(to_pipe, "w")
    ConsoleHandler(stream, stream).handle(record(logging.INFO, "x"))
    with pytest.raises(BrokenPipeError):
        stream.close()
