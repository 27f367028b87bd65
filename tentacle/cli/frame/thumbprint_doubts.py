"""Thumbprints that no server can have: they are taken, since recipes pass addresses, but not silently."""

from __future__ import annotations

from collections.abc import Iterable

from tentacle.thumbprints import clean_thumbprint, doubt_about


def doubts_about(thumbprints: Iterable[str]) -> tuple[str, ...]:
    """What to say of each of the `thumbprints` that is none."""
    doubtful = ((clean_thumbprint(given), doubt_about(given)) for given in thumbprints)
    return tuple(f"'{one:.100}' {doubt}: it is stored, but no server can have it." for one, doubt in doubtful if doubt)
