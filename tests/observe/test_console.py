"""What the person at the terminal sees, and that a reader who leaves stops nobody."""

from __future__ import annotations

import io
import logging
import os

import pytest

from tentacle.observe.console import ConsoleHandler
from tentacle.observe.text import visible


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode", "plain ünïcode"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\rb\x00c\u202e", "a\\rb\\x00c\\u202e"),
        ("two\nlines", r"two\nlines"),
        ("\udce4", r"\udce4"),
    ],
)
def test_what_is_not_printable_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_some_characters_may_be_kept() -> None:
    assert visible("a\nb\tc\r", keep="\n\t") == "a\nb\tc\\r"
