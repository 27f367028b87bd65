"""Every recorded conversation, played against a connection in every way it may arrive."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from uuid import UUID

import pytest

from tentacle.wire.connection import Connection
from tentacle.wire.events import (
    Closed,
    End,
    Event,
    Identity,
    IdentityKind,
    Next,
    Nothing,
    Preface,
    Proceed,
    RequestEvent,
    ResponseEvent,
    StreamBegin,
    StreamChunk,
    StreamEnd,
)
from tentacle.wire.limits import Limits
from tentacle.wire.messages import Request, decode_message
from tentacle.wire.rules import Role
from tests.recorded import Recorded, Turn, conversations

ALL = [pytest.param(c, id=c.name) for c in conversations()]
CONTROL: dict[str, Event] = {"NEXT\r\n": Next(), "PROCEED\r\n": Proceed(), "END\r\n": End()}


def events_of(turn: Turn) -> Iterator[Event]:
    """What a turn means, from its recorded parts."""
    for part in turn.parts:
        if "control" in part:
            yield control_event(part["control"])
            continue
        message = decode_message(bytes.fromhex(part["bson_hex"]), Limits())
        streams = part["data_streams"]
        if message is None:
            yield Nothing()
        elif isinstance(message, Request):
            yield RequestEvent(message, len(streams))
        else:
            yield ResponseEvent(message, len(streams))
        for stream in streams:
            yield StreamBegin(UUID(stream["id"]), stream["length"])
            yield StreamChunk(bytes.fromhex(stream["body_hex"]))
            yield StreamEnd()


def control_event(text: str) -> Event:
    if text in CONTROL:
        return CONTROL[text]
    if text.strip() == "MX":
        return Preface()
    words = text.split()
    return Identity(IdentityKind(words[0]), words[2] if len(words) > 2 else None)


def joined(events: list[Event]) -> list[Event]:
    """Chunks of a stream put together: how it was cut is not what the peer said."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, StreamChunk) and result and isinstance(result[-1], StreamChunk):
            result[-1] = StreamChunk(result[-1].data + event.data)
        else:
            result.append(event)
    return result


def roles_of(recorded: Recorded) -> dict[str, Role]:
    if recorded.dialled_by == "server":
        return {"agent": Role.LISTENING_SERVICE, "server": Role.LISTENING_CLIENT}
    return {"agent": Role.POLLING_SERVICE, "server": Role.POLLING_CLIENT}


def play(recorded: Recorded, us: str, chunk: int) -> None:
    """Plays one side's bytes against the other side's connection and compares every event and every answer."""
    connection = Connection(roles_of(recorded)[us])
    for turn in recorded.turns:
        if turn.sender == us:
            check_sent(connection, turn)
        else:
            received: list[Event] = []
            for start in range(0, len(turn.data), chunk):
                connection.receive_data(turn.data[start : start + chunk])
                while (event := connection.next_event()) is not None:
                    received.append(event)
            assert joined(received) == list(events_of(turn))
    assert connection.between_elements


def check_sent(connection: Connection, turn: Turn) -> None:
    """What we send for the recorded events: control lines and streams byte for byte, messages by their plain text."""
    recorded, ours = list(events_of(turn)), []
    for event in recorded:
        ours.append(b"".join(connection.send(event)))
    rest = turn.data
    for event, data in zip(recorded, ours, strict=True):
        if isinstance(event, RequestEvent | ResponseEvent | Nothing):
            inflate = zlib.decompressobj(-15)
            theirs = inflate.decompress(rest)
            assert zlib.decompress(data, -15) == theirs
            rest = inflate.unused_data
        elif isinstance(event, Preface):
            assert data == b"MX\n\n"
            rest = rest[rest.index(b"MX-") :]
        else:
            assert rest.startswith(data)
            rest = rest[len(data) :]
    assert not rest


@pytest.mark.parametrize("recorded", ALL)
@pytest.mark.parametrize("us", ["agent", "server"])
def test_a_conversation_in_every_chunk_size(recorded: Recorded, us: str) -> None:
    longest = max(len(turn.data) for turn in recorded.turns)
    sizes = [*range(1, min(longest, 256) + 1), 1024, 1025, longest]
    for chunk in sizes:
        play(recorded, us, chunk)


@pytest.mark.parametrize("recorded", ALL)
def test_the_end_of_a_conversation_is_clean(recorded: Recorded) -> None:
    """The server closes without a word more often than not; the agent's end must take that for what it is."""
    connection = Connection(roles_of(recorded)["agent"])
    for turn in recorded.turns:
        for event in events_of(turn):
            if turn.sender == "agent":
                connection.send(event)
        if turn.sender == "server":
            connection.receive_data(turn.data)
            while connection.next_event() is not None:
                pass
    if connection.state.name in ("EXPECT_CONTROL", "EXPECT_REQUEST", "SEND_NEXT"):
        connection.receive_data(b"")
        assert connection.next_event() == Closed()
