"""Time spans in .NET's notation (docs/spec/wire.md, "BSON values")."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.contracts.timespan import MAX_INT32_MILLISECONDS, format_timespan, parse_timespan

LONGEST = timedelta(days=10675199, hours=2, minutes=48, seconds=5, microseconds=477580)

WRITTEN = [
    ("00:00:00", timedelta(0)),
    ("00:02:00", timedelta(minutes=2)),
    ("00:00:01.5000000", timedelta(seconds=1.5)),
    ("1.12:00:00", timedelta(days=1.5)),
    ("-00:00:00.0000010", timedelta(microseconds=-1)),
    ("-1.00:00:01", -timedelta(days=1, seconds=1)),
    ("24.20:31:23.6470000", MAX_INT32_MILLISECONDS),
    ("10675199.02:48:05.4775800", LONGEST),
]


@pytest.mark.parametrize(("text", "span"), WRITTEN)
def test_what_is_written_is_read(text: str, span: timedelta) -> None:
    assert format_timespan(span) == text
    assert parse_timespan(text) == span


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("  00:00:05 ", timedelta(seconds=5)),
        ("1:2", timedelta(hours=1, minutes=2)),
        ("1:2:3", timedelta(hours=1, minutes=2, seconds=3)),
        ("1.1:2", timedelta(days=1, hours=1, minutes=2)),
        ("00:00:00.5", timedelta(seconds=0.5)),
        ("00:00:00.0000009", timedelta(0)),
        ("3", timedelta(days=3)),
        ("-3", timedelta(days=-3)),
    ],
)
def test_other_forms_are_read_too(text: str, span: timedelta) -> None:
    assert parse_timespan(text) == span


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "-", ":", "x", "1.", "00:00:00.", "00:00:00.12345678", "24:00:00", "00:60:00", "00:00:60"),
        *("1:2:3:4:5", "--1", "+1", "1e3", "٣", "00:00:0٣", "99999999", "10675200.00:00:00", "00:00:05\0"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a time span"):
        parse_timespan(text)


def test_a_long_text_is_refused_at_once() -> None:
    began = time.process_time()
    for text in (" " * 10_000_000, "1" * 10_000_000, "1:" * 5_000_000):
        with pytest.raises(ValueError, match="not a time span") as refused:
            parse_timespan(text)
        assert len(str(refused.value)) < 200
    assert time.process_time() - began < 0.5


@given(st.timedeltas(min_value=-LONGEST, max_value=LONGEST))
def test_every_span_comes_back(span: timedelta) -> None:
    assert parse_timespan(format_timespan(span)) == span


@given(st.text() | st.text(alphabet="0123456789.:- ", max_size=30))
def test_every_text_is_a_span_or_refused(text: str) -> None:
    try:
        span = parse_timespan(text)
    except ValueError:
        return
    assert parse_timespan(format_timespan(span)) == span
