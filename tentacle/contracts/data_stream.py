"""A file that travels beside a message; its bytes follow the message on the wire (docs/spec/wire.md,
"Data streams").
"""

from __future__ import annotations

from uuid import UUID

from tentacle.contracts.codec import Long, contract
from tentacle.records import dataclass


@contract("Halibut.DataStream, Halibut", members={"id": "id", "length": "length"})
@dataclass(frozen=True)
class DataStream:
    """Stands for `length` bytes that are handed over separately under the same `id`."""

    id: UUID
    length: Long
