"""The parts of every recorded conversation are found again, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.wire.errors import ProtocolError
from tentacle.wire.transcript import ControlPart, MessagePart, Part, StreamPart, Transcript
from tests.recorded import Recorded, conversations

CONVERSATIONS = conversations()


def expected(recorded: Recorded, side: str) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for part in (part for turn in recorded.turns if turn.sender == side for part in turn.parts):
        if "control" in part:
            found.append(("control", part["control"]))
        elif "message" in part:
            found.append(("message", part["bson_hex"]))
            found += [("stream", (one["id"], one["length"])) for one in part["data_streams"]]
    return found


def told(parts: list[Part]) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for part in parts:
        match part:
            case ControlPart(raw):
                found.append(("control", raw.decode()))
            case MessagePart():
                found.append(("message", part.plain.hex()))
            case StreamPart(identity, length):
                found.append(("stream", (str(identity), length)))
    return found


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_every_recorded_conversation(size: int) -> None:
    for recorded in CONVERSATIONS:
        for side in ("server", "agent"):
            data = b"".join(turn.data for turn in recorded.turns if turn.sender == side)
            transcript = Transcript()
            parts = [p for at in range(0, len(data), size) for p in transcript.feed(data[at : at + size])]
            assert told(parts) == expected(recorded, side), (recorded.name, side)
            if not any(isinstance(one, StreamPart) for one in parts):
                assert b"".join(one.raw for one in parts if not isinstance(one, StreamPart)) == data


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_any_bytes_are_read_or_refused(pieces: list[bytes]) -> None:
    transcript = Transcript()
    try:
        for piece in pieces:
            transcript.feed(piece)
    except ProtocolError:
        return
