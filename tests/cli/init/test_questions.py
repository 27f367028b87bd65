"""`init` and a person: questions, slips, second thoughts, in a real pseudo-terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.init.terminal import Terminal
from tests.e2e.stage import Stage

CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.mark.parametrize(
    ("typed", "code", "last"),
    [
        (CTRL_C, 130, b"Interrupted; nothing was changed."),
        (CTRL_D, 1, b"The input ended before all questions were answered; nothing was changed."),
    ],
)
def test_who_thinks_better_of_it_has_changed_nothing(stage: Stage, typed: str, code: int, last: bytes) -> None:
    person = Terminal(stage)
    person.answer("Name of the instance", "")
    person.answer("Configuration file", typed, end="")
    assert person.end() == code
    assert person.shown.rstrip().endswith(last)
    assert not (stage.directory / "machine").exists()


def test_no_is_an_answer(stage: Stage) -> None:
    person = Terminal(stage, "--no-register", "--mode=polling", f"--app={stage.directory / 'apps'}", "--instance=N")
    person.answer("Configuration file", "")
    person.answer("Go ahead?", "no")
    assert person.end() == 0
    assert person.shown.rstrip().endswith(b"Nothing was changed.")
    assert list(Path(stage.directory).glob("machine/N*")) == []
