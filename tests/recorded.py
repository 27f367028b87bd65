"""The recorded conversations, as the tests read them (their origin: `vectors/README.md`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent / "vectors"
CONVERSATIONS = sorted(p.stem for p in VECTORS.glob("*.json") if p.stem.startswith(("listening-", "polling-")))


def load_vector(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Turn:
    """What one side sent before the other spoke."""

    sender: str
    data: bytes
    parts: list[dict[str, Any]]


@dataclass(frozen=True)
class Recorded:
    """One connection of a conversation."""

    name: str
    dialled_by: str
    turns: tuple[Turn, ...]


def conversations() -> list[Recorded]:
    found = []
    for name in CONVERSATIONS:
        vector = load_vector(name)
        for connection in vector["connections"]:
            turns = tuple(Turn(t["from"], bytes.fromhex(t["hex"]), t["parts"]) for t in connection["turns"])
            found.append(Recorded(name, vector["dialled_by"], turns))
    return found


def messages() -> list[tuple[str, bytes]]:
    """Every message of every conversation: where it is from, and its BSON."""
    return [
        (f"{recorded.name}-{turn_number}-{part_number}", bytes.fromhex(part["bson_hex"]))
        for recorded in conversations()
        for turn_number, turn in enumerate(recorded.turns)
        for part_number, part in enumerate(turn.parts)
        if "message" in part
    ]
