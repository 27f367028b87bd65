"""Logging as it is put together: who sees which record, at which level, and that nothing stays behind."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest

from tentacle.home_layout import LOG_FILE
from tentacle.observe.console import ConsoleHandler
from tentacle.observe.levels import OFF, TRACE, threshold
from tentacle.observe.logfile import FileLogHandler
from tentacle.observe.logs import FILE_ONLY_LOGGER, logging_to
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


@pytest.mark.parametrize(
    ("name", "level"),
    [("Trace", TRACE), ("Debug", 10), ("Info", 20), ("Warn", 30), ("Error", 40), ("Fatal", 50), ("Off", OFF)],
)
def test_levels_are_spelled_exactly(name: str, level: int) -> None:
    assert threshold({"OCTOPUS__TENTACLE__LOGLEVEL": name}) == level
    assert threshold({"OCTOPUS__TENTACLE__LOGLEVEL": name.upper()}) == logging.INFO
    assert threshold({}) == logging.INFO
