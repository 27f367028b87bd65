"""Log lines as JSON: one object a line, whatever was logged, with what it belongs to."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tentacle.home_layout import LOG_FILE
from tentacle.observe.json_lines import JsonFormatter
from tentacle.observe.logfile import FileLogHandler
from tentacle.observe.logs import ConsoleHandler, logging_to
from tentacle.observe.redaction import Redactor
from tentacle.trace_context import Work, read_trace, working_for

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_what_is_logged_is_one_object_a_line_on_the_console_and_in_the_file(tmp_path: Path) -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    console, file = ConsoleHandler(stdout, stderr), FileLogHandler()
    console.speak_json()
    log = logging.getLogger("tentacle.x")
    with logging_to(console, file, Redactor(["s3cr3t"]), {}):
        with working_for(Work(read_trace(PARENT), "AB" * 20, "T\n1")):
            log.info('a "s3cr3t"\n{"Level": "Fatal"}')
        file.attach(tmp_path, max_bytes=2**20, kept=7, as_json=True)
        try:
            raise ValueError("s3cr3t\nforged")
        except ValueError:
            log.exception("it failed")
    first, second = lines((tmp_path / LOG_FILE).read_text())
    assert lines(stdout.getvalue()) == [first]
    assert [one["Message"] for one in lines(stderr.getvalue())] == ["it failed"]
    assert first["Message"] == 'a "********"\n{"Level": "Fatal"}'
    assert (first["Level"], first["Logger"], first["Server"], first["Ticket"]) == (
        *("Info", "tentacle.x", "AB" * 20),
        "T\n1",
    )
    assert [first["TraceId"], first["SpanId"]] == PARENT.split("-")[1:3]
    assert second["Level"] == "Error"
    assert "ValueError: ********\nforged" in second["Exception"]
    assert "s3cr3t" not in (tmp_path / LOG_FILE).read_text() + stdout.getvalue() + stderr.getvalue()
    assert not {"Server", "Ticket", "TraceId", "Exception"} & set(second) - {"Exception"}


@given(st.text(), st.sampled_from([5, 10, 20, 30, 40, 50, 100]))
def test_any_text_is_one_line(text: str, level: int) -> None:
    record = logging.LogRecord("tentacle.x", level, __file__, 1, "%s", (text,), None)
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["Message"] == text
