"""The one line that is told of an error, whatever the error is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.errors import TentacleError, one_line


@given(st.text())
def test_it_is_one_line_that_a_terminal_only_shows(text: str) -> None:
    line = one_line(TentacleError(text))
    assert line.isprintable()
    assert line == line.strip()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\nlines"), "two lines"),
        (KeyError(), "KeyError"),
        (ExceptionGroup("unhandled errors", [OSError("no room"), ValueError("other")]), "no room"),
        (ExceptionGroup("outer", [ExceptionGroup("inner", [TentacleError("why")])]), "why"),
    ],
)
def test_what_it_says(error: Exception, line: str) -> None:
    assert one_line(error) == line
