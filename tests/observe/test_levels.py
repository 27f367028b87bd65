"""The names of log levels."""

from __future__ import annotations

import logging

import pytest

from tentacle.observe.levels import OFF, TRACE, threshold


@pytest.mark.parametrize(
    ("name", "level"),
    [("Trace", TRACE), ("Debug", 10), ("Info", 20), ("Warn", 30), ("Error", 40), ("Fatal", 50), ("Off", OFF)],
)
def test_levels_are_spelled_exactly(name: str, level: int) -> None:
    assert threshold({"OCTOPUS__TENTACLE__LOGLEVEL": name}) == level
    assert threshold({"OCTOPUS__TENTACLE__LOGLEVEL": name.upper()}) == logging.INFO
    assert threshold({}) == logging.INFO
