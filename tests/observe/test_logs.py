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
    file.attach(tmp_path, max_bytes=2**20, kept=7)
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
    assert [line[51:].strip() for line in lines] == ["a ********", "for the file", "their ********"]


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


def test_the_journal_is_told_the_priority_of_each_line() -> None:
    """The variable names the stream, so that a pipe behind which no journal is gets the bare text."""
    (from_journal, journal), (from_pipe, pipe) = os.pipe(), os.pipe()
    status = os.fstat(journal)
    with os.fdopen(journal, "w") as stdout, os.fdopen(pipe, "w") as stderr:
        handler = ConsoleHandler(stdout, stderr, f"{status.st_dev}:{status.st_ino}")
        handler.handle(record(logging.DEBUG, "d"))
        handler.handle(record(logging.INFO, "first\nsecond"))
        handler.handle(record(logging.WARNING, "w"))
        handler.handle(record(logging.ERROR, "e"))
    for end, text in ((from_journal, "<7>d\n<6>first\n<6>second\n<4>w\n"), (from_pipe, "e\n")):
        with os.fdopen(end) as stream:
            assert stream.read() == text


@pytest.mark.parametrize("text", ["", "0:0", "nonsense"])
def test_a_variable_of_another_stream_changes_nothing(text: str) -> None:
    stdout = io.StringIO()
    ConsoleHandler(stdout, stdout, text).handle(record(logging.INFO, "x"))
    assert stdout.getvalue() == "x\n"
