"""The version that servers are told: three numbers as the original's, or the default."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.settings.errors import SettingsError
from tentacle.settings.reported_version import COMPATIBLE_WITH, REPORTED_VERSION


@given(st.tuples(*[st.integers(0, 999_999_999)] * 3), st.from_regex(r"([-+][0-9A-Za-z.-]{1,20})?", fullmatch=True))
def test_a_version_is_kept_to_the_letter(numbers: tuple[int, int, int], behind: str) -> None:
    version = f"{'.'.join(map(str, numbers))}{behind}"
    assert REPORTED_VERSION.parse(version) == version == REPORTED_VERSION.text(version)


@given(st.text() | st.from_regex(r"\A[0-9.]{1,12}[\n ]?\Z"))
def test_anything_is_three_numbers_or_refused(text: str) -> None:
    try:
        version = REPORTED_VERSION.parse(text)
    except SettingsError as error:
        assert str(error).startswith("must be a version of three numbers, such as ")
        return
    assert version.isascii()
    assert version.isprintable()
    assert len([part for part in version.split("-")[0].split("+")[0].split(".") if part.isdigit()]) == 3


@pytest.mark.parametrize("text", ["default", "DEFAULT", COMPATIBLE_WITH])
def test_the_default_can_be_named(text: str) -> None:
    assert REPORTED_VERSION.parse(text) == COMPATIBLE_WITH
