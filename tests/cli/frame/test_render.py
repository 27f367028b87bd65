"""What a result, a failure and a surprise look like to the person, to a tool and in the log."""

from __future__ import annotations

import io
import json
import re
import signal
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle import __version__
from tentacle.cli.frame.render import (
    LONGEST_MESSAGE,
    in_short,
    render,
    report_error,
    report_unexpected_error,
    run_steps,
    trace,
)
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions, ProcessContext
from tentacle.errors import TentacleError
from tests.cli.streams import Deaf


def test_at_a_terminal_the_prompt_is_not_glued_to_the_version(tentacle: Any) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for arguments, end in ((["version"], f"{__version__}\n"), (["help"], "for more details.\n")):
        out = Terminal()
        assert tentacle(*arguments, stdout=out).code == 0
        assert out.getvalue().endswith(end)
        assert not out.getvalue().endswith("\n\n")


def test_an_unexpected_error_is_one_line_and_its_traceback_is_in_the_log(tentacle: Any, instance: Path) -> None:
    ended = tentacle("show-configuration", "--instance=I", stdout=Deaf())
    log = instance / "Logs" / "OctopusTentacle.txt"
    assert ended.code == 100
    [line] = ended.err.splitlines()
    assert line == rf"Unexpected error: RuntimeError: the key is ********\nERROR  forged (details in {log})"
    text = tentacle.log(instance)
    assert "    Traceback (most recent call last):" in text
    assert "API-ABCDEFGHIJKLMNOP" not in text
    assert "\nERROR" not in text


def test_a_log_that_cannot_be_written_is_said(tentacle: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = tentacle("version", stdout=Deaf(), environ={"DefaultLogDirectory": f"{tmp_path}/file"})
    assert ended.code == 100
    assert ended.err.rstrip().endswith(f"(its details are lost: {tmp_path}/file/OctopusTentacle.txt cannot be written)")


def test_steps_are_shown_one_by_one_and_their_result_last(tentacle: Any) -> None:

    out = io.StringIO()
    session = CommandSession(ProcessContext(environ={}, cwd=tentacle.cwd, stdout=out, stderr=out))
    seen: list[str] = []

    def steps() -> Any:
        yield "one"
        seen.append(out.getvalue())
        yield "two"
        return CommandResult(lines=("three",), data="four", restart=True, exit_code=7)

    with session.logging():
        assert render(steps(), session) == 7
    assert seen == ["one\n"]
    assert out.getvalue() == "one\ntwo\nthree\nfourThese changes require a restart of the service.\n"


def a_session(stdout: TextIO, stderr: TextIO) -> CommandSession:
    return CommandSession(ProcessContext(environ={}, cwd=Path(), stdout=stdout, stderr=stderr))


@dataclass
class Shown:
    """A session and what it has shown."""

    out: io.StringIO = field(default_factory=io.StringIO)
    err: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        self.session = a_session(self.out, self.err)

    def lines(self) -> tuple[list[str], list[str]]:
        return self.out.getvalue().splitlines(), self.err.getvalue().splitlines()


@pytest.fixture
def shown() -> Iterator[Shown]:
    made = Shown()
    with made.session.logging():
        yield made


def test_problems_stand_on_standard_error_and_fail_nothing(shown: Shown) -> None:
    result = CommandResult(("line",), "data\n", problems=("problem", "x" * 5000))
    assert render(result, shown.session) == 0
    out, err = shown.lines()
    assert (out, err[0], len(err)) == (["line", "data"], "problem", 2)
    assert "[...3800 characters...]" in err[1]


def test_a_document_takes_the_place_of_lines_and_not_of_data(shown: Shown) -> None:
    shown.session.answer_in_json()
    assert render(CommandResult(("line",), document={"Count": 1}, exit_code=4), shown.session) == 4
    assert json.loads(shown.out.getvalue()) == {"Count": 1}
    assert render(CommandResult(("line",), "data", document={"Count": 1}), shown.session) == 0
    assert shown.out.getvalue().endswith("}\ndata")


def test_an_error_is_one_line_and_its_hint_another(shown: Shown) -> None:
    error = TentacleError("two\nlines\x1b[2J", hint="do\tthis", exit_code=7)
    assert report_error(error, shown.session, cause=RuntimeError("for the log alone")) == 7
    assert shown.lines() == ([], ["two\\nlines\\x1b[2J", "do\\tthis"])


def test_the_traceback_of_a_cause_is_in_the_log(tentacle: Any, instance: Path) -> None:
    session = CommandSession(ProcessContext(environ=tentacle.environ, cwd=tentacle.cwd, stdout=io.StringIO()))
    with session.logging():
        session.choose(InstanceOptions("I", None))
        try:
            Path("/nowhere/at/all").read_text()
        except OSError as cause:
            report_error(TentacleError("It did not work."), session, cause=cause)
    assert "    Traceback (most recent call last):" in tentacle.log(instance)


def test_an_unexpected_error_without_a_text_is_its_name(tmp_path: Path) -> None:
    err = io.StringIO()
    environ = {"DefaultLogDirectory": str(tmp_path)}
    session = CommandSession(ProcessContext(environ=environ, cwd=tmp_path, stdout=io.StringIO(), stderr=err))
    with session.logging():
        assert report_unexpected_error(ZeroDivisionError(), session) == 100
        assert report_unexpected_error(ValueError("a\nb"), session) == 100
    assert err.getvalue().splitlines() == [
        f"Unexpected error: ZeroDivisionError (details in {tmp_path}/OctopusTentacle.txt)",
        f"Unexpected error: ValueError: a\\nb (details in {tmp_path}/OctopusTentacle.txt)",
    ]


@given(st.integers(0, 3 * LONGEST_MESSAGE))
def test_a_text_that_nobody_reads_loses_its_middle_alone(length: int) -> None:
    text = "".join(chr(0x100 + number) for number in range(length))
    short = in_short(text)
    assert len(short) <= LONGEST_MESSAGE + 40
    assert (short == text) is (length <= LONGEST_MESSAGE)
    if short != text:
        start, left_out, end = re.split(r" \[\.\.\.(\d+) characters\.\.\.\] ", short)
        assert text.startswith(start)
        assert text.endswith(end)
        assert len(start) + int(left_out) + len(end) == length


def test_a_command_that_is_interrupted_has_a_last_word(shown: Shown) -> None:
    def steps() -> Generator[str, None, str]:
        try:
            yield "begun"
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            yield "stopped here"
        return "end"

    assert run_steps(steps()) == "end"
    assert shown.lines()[0] == ["begun", "stopped here"]


def test_an_interrupt_while_a_line_is_shown_reaches_the_command_too() -> None:
    """Wherever it strikes: here it is the terminal that is slow."""

    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            if text == "begun\n":
                raise KeyboardInterrupt
            return super().write(text)

    def steps(*, last_word: bool) -> Generator[str, None, None]:
        try:
            yield "begun"
        except KeyboardInterrupt:
            if not last_word:
                raise
            yield "stopped here"

    out = Interrupted()
    with a_session(out, out).logging():
        run_steps(steps(last_word=True))
        with pytest.raises(KeyboardInterrupt):
            run_steps(steps(last_word=False))
    assert out.getvalue() == "stopped here\n"


def test_a_request_is_told_only_to_who_wants_to_see_them(shown: Shown) -> None:
    shown.session.redactor.add("hush")
    with click.Context(click.Command("x"), obj=shown.session):
        trace("GET /quiet")
        shown.session.verbose = True
        trace("GET /hush\x1b[2J")
    trace("GET /outside")
    assert shown.lines() == ([], ["GET /********\\x1b[2J"])
