"""Thumbprints that no server can have: they are taken, since recipes pass addresses, but not silently."""

from __future__ import annotations

from collections.abc import Iterable

from tentacle.thumbprints import doubts_about


def warnings_about(thumbprints: Iterable[str]) -> tuple[str, ...]:
    """What to say of each of the `thumbprints` that is none."""
    return tuple(f"{doubt}: it is stored, but no server can have it." for doubt in doubts_about(thumbprints).values())
