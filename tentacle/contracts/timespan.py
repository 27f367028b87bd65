"""Time spans as .NET writes them: `[-][d.]hh:mm:ss[.fffffff]` (docs/spec/wire.md, "BSON values").

Knows text and `timedelta`, nothing else.  A .NET tick is 100 ns; `timedelta` keeps microseconds, so the seventh
decimal is dropped when reading.
"""

from __future__ import annotations

import re
from datetime import timedelta

_PATTERN = re.compile(
    r"\s*(?P<sign>-)?(?:(?:(?P<days>\d{1,8})\.)?(?P<h>\d{1,2}):(?P<m>\d{1,2})(?::(?P<s>\d{1,2})"
    r"(?:\.(?P<f>\d{1,7}))?)?|(?P<only_days>\d{1,8}))\s*",
    re.ASCII,
)
_LONGEST_TEXT = 64
_LONGEST = timedelta(days=10675199, hours=2, minutes=48, seconds=5, microseconds=477580)
"""2**63 ticks, less the last decimal."""

MAX_INT32_MILLISECONDS = timedelta(milliseconds=2**31 - 1)
"""What the server sends for "no time-out" (`24.20:31:23.6470000`)."""


def parse_timespan(text: str) -> timedelta:
    """The `timedelta` that `text` means; a bare integer is days, as in .NET.

    Raises `ValueError` for anything that .NET refuses too: hours above 23, minutes or seconds above 59, more than
    some ten million days.
    """
    match = _PATTERN.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        raise ValueError(f"not a time span: {text[:60]!r} (expected [d.]hh:mm:ss[.fffffff])")
    part = {k: int(v or 0) for k, v in match.groupdict().items() if k not in ("sign", "f")}
    if part["h"] > 23 or part["m"] > 59 or part["s"] > 59:
        raise ValueError(f"not a time span: {text[:60]!r} (hours up to 23, minutes and seconds up to 59)")
    span = timedelta(
        days=part["days"] or part["only_days"],
        hours=part["h"],
        minutes=part["m"],
        seconds=part["s"],
        microseconds=int((match["f"] or "0").ljust(7, "0")[:6]),
    )
    if span > _LONGEST:
        raise ValueError(f"not a time span: {text[:60]!r} (too long)")
    return -span if match["sign"] else span


def format_timespan(span: timedelta) -> str:
    """`span` in .NET's constant format; the fraction has seven digits or is left out."""
    sign, span = ("-", -span) if span < timedelta(0) else ("", span)
    hours, rest = divmod(span.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    days = f"{span.days}." if span.days else ""
    fraction = f".{span.microseconds:06d}0" if span.microseconds else ""
    return f"{sign}{days}{hours:02d}:{minutes:02d}:{seconds:02d}{fraction}"
