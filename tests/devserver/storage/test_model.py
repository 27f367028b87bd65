"""Times as the API writes them."""

from __future__ import annotations

import pytest

from tentacle.devserver.storage.model import iso_milliseconds


@pytest.mark.parametrize("milliseconds", [2**63 - 1, -(2**63), 253_402_300_800_000])
def test_a_time_that_no_calendar_holds_is_the_first_of_1970(milliseconds: int) -> None:
    assert iso_milliseconds(milliseconds) == "1970-01-01T00:00:00.000+00:00"
