"""Streams that misbehave."""

from __future__ import annotations

import io


class Deaf(io.StringIO):
    """A stream that breaks in a way nobody thought of."""

    def write(self, _text: str) -> int:
        raise RuntimeError("the key is API-ABCDEFGHIJKLMNOP\nERROR  forged")
