"""How much a peer may make us hold in memory.  The original has no limits; every one here is ours."""

from __future__ import annotations

from tentacle.records import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """All sizes in bytes."""

    control_line: int = 1024
    """An identity line with a long subscription id has some 70."""
    preface: int = 20_000
    """The original stops there too (docs/spec/wire.md, "Preface")."""
    deflated_message: int = 64 * MIB
    inflated_message: int = 256 * MIB
    elements: int = 100_000
    """Values in a message, lists and documents included: each costs some hundred bytes, however short it was."""
    nesting: int = 64
    """Containers inside containers; the original's reader allows as many (docs/spec/wire.md, "Serializer rules")."""
    streams_per_message: int = 1024
    stream_length: int = 1024 * 1024 * MIB
    """One TiB: a bound against nonsense; whether the disk has the room is asked when the length is known."""


ANSWERS = Limits(elements=8_000_000)
"""For who calls: the original answers with the whole log of a script, which may have a million lines."""
