"""How large log files become: what is understood, and that it is shown as it is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.settings.errors import SettingsError
from tentacle.settings.logs import FILE_SIZE, FILES_KEPT, LogSettings


@given(st.integers(4 * 2**20, 2**40), st.integers(1, 1000))
def test_what_is_shown_is_read_as_the_same(size: int, count: int) -> None:
    assert FILE_SIZE.parse(FILE_SIZE.text(size)) == size
    assert FILES_KEPT.parse(FILES_KEPT.text(count)) == count


@given(st.text() | st.sampled_from(["none", "1M", "0", "-1", "1001", "1e3"]))
def test_anything_is_a_number_within_bounds_or_refused(text: str) -> None:
    for syntax, least in ((FILE_SIZE, 4 * 2**20), (FILES_KEPT, 1)):
        try:
            assert syntax.parse(text) >= least
        except SettingsError as error:
            assert str(error).startswith("must be a ")


def test_the_defaults_are_those_of_the_documents() -> None:
    assert (FILE_SIZE.text(LogSettings().file_size), FILES_KEPT.text(LogSettings().files_kept)) == ("100M", "7")


def test_a_log_without_a_limit_cannot_be_asked_for() -> None:
    with pytest.raises(SettingsError, match="from 4M, such as 100M or 2G, not 'none'"):
        FILE_SIZE.parse("none")
