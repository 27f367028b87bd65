"""Data streams behind a message: what was announced arrives as it was sent, and every difference is refused
(docs/spec/wire.md, "Data stream blocks" and "Reading data streams").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.wire.buffer import ReceiveBuffer
from tentacle.wire.errors import LocalProtocolError, ProtocolError
from tentacle.wire.events import StreamBegin, StreamChunk, StreamEnd
from tentacle.wire.limits import Limits
from tentacle.wire.streams import Announced, StreamEvent, StreamReader, StreamWriter, check_announced
from tests.recorded import Recorded, conversations
from tests.wire.cuts import CUTS, REFUSED, Parser, in_every_cut, outcome

ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
OTHER = UUID("ffeeddcc-bbaa-9988-7766-554433221100")
HELLO = bytes.fromhex("33221100 55447766 8899AABBCCDDEEFF 0500000000000000 68656C6C6F 0500000000000000")
"""docs/spec/wire.md, "Worked bytes"."""
SMALL = Limits(streams_per_message=3, stream_length=100)

Received = list[tuple[UUID, bytes]]
CONTENTS = st.lists(st.binary(max_size=30), min_size=1, max_size=4)


def block(identity: UUID, data: bytes, length: int | None = None, again: int | None = None) -> bytes:
    length = len(data) if length is None else length
    head = identity.bytes_le + length.to_bytes(8, "little", signed=True)
    return head + data + (length if again is None else again).to_bytes(8, "little", signed=True)


def reader(announced: Iterable[tuple[UUID, int]]) -> Parser[Received]:
    """A parser of all blocks together, which gives id and content of each in the order in which they came."""
    streams = StreamReader(announced)
    received: Received = []
    lengths: list[int] = []

    def take(buffer: ReceiveBuffer) -> Received | None:
        while not streams.done:
            match streams.next_event(buffer):
                case StreamBegin(identity, length):
                    received.append((identity, b""))
                    lengths.append(length)
                case StreamChunk(data):
                    assert data
                    received[-1] = (received[-1][0], received[-1][1] + data)
                    assert len(received[-1][1]) <= lengths[-1]
                case StreamEnd():
                    assert len(received[-1][1]) == lengths[-1]
                case None:
                    return None
        return received

    return take


def announcing(contents: Iterable[bytes]) -> tuple[Announced, list[tuple[UUID, bytes]]]:
    streams = [(uuid4(), content) for content in contents]
    return tuple((identity, len(content)) for identity, content in streams), streams


def events_of(identity: UUID, content: bytes, cuts: Iterable[int] = ()) -> Iterator[StreamEvent]:
    places = [0, *sorted(cut for cut in cuts if cut < len(content)), len(content)]
    yield StreamBegin(identity, len(content))
    for start, end in pairwise(places):
        yield StreamChunk(content[start:end])
    yield StreamEnd()


# --- reading -----------------------------------------------------------------------------------------------------


def test_the_specified_block_is_read() -> None:
    assert in_every_cut(lambda: reader([(ID, 5)]), HELLO + b"NEXT\r\n") == ([(ID, b"hello")], b"NEXT\r\n")


def test_an_empty_stream_takes_32_bytes() -> None:
    sent = ID.bytes_le + bytes(16)
    assert in_every_cut(lambda: reader([(ID, 0)]), sent + b"\0") == ([(ID, b"")], b"\0")


def test_blocks_may_come_in_another_order_than_announced() -> None:
    sent = block(OTHER, b"ab") + block(ID, b"")
    assert in_every_cut(lambda: reader([(ID, 0), (OTHER, 2)]), sent) == ([(OTHER, b"ab"), (ID, b"")], b"")


@pytest.mark.parametrize(
    "sent",
    [
        block(OTHER, b"abc"),
        block(ID, b"abcd"),
        block(ID, b"ab"),
        block(ID, b"abc", length=-1),
        block(ID, b"abc", length=2**62),
        block(ID, b"abc") + block(ID, b"abc"),
        block(ID, b"abc") + block(uuid4(), b"x"),
        UUID(bytes_le=ID.bytes).bytes_le + HELLO[16:],
        b"",
        block(ID, b"abc")[:20],
        block(ID, b"abc")[:26],
        block(ID, b"abc"),
        block(ID, b"abc") + block(OTHER, b"x")[:-1],
    ],
    ids=[
        *("unknown", "longer", "shorter", "negative", "huge", "twice", "one more"),
        *("other order of bytes", "none", "head", "body", "one less", "no trailer"),
    ],
)
def test_what_is_not_what_was_announced_is_refused(sent: bytes) -> None:
    assert in_every_cut(lambda: reader([(ID, 3), (OTHER, 1)]), sent)[0] is REFUSED


@pytest.mark.parametrize("again", [-3, 0, 2, 4, 2**40])
def test_the_second_length_must_be_the_first(again: int) -> None:
    assert in_every_cut(lambda: reader([(ID, 3)]), block(ID, b"abc", again=again))[0] is REFUSED


@given(CONTENTS, st.randoms(use_true_random=False), st.binary(max_size=40), CUTS)
def test_any_streams_arrive_in_any_order_and_any_pieces(
    contents: list[bytes], order: Random, behind: bytes, cuts: list[int]
) -> None:
    announced, streams = announcing(contents)
    order.shuffle(streams)
    sent = b"".join(block(*stream) for stream in streams)
    assert outcome(reader(announced), sent + behind, cuts) == (streams, behind)
    assert outcome(reader(announced), sent + behind, range(len(sent))) == (streams, behind)
    assert outcome(reader(announced), sent[:-1], cuts)[0] is REFUSED


@given(st.binary(max_size=80) | st.binary(max_size=60).map(HELLO[:24].__add__), CUTS)
@example(HELLO[:-1] + b"\x01", [24])
def test_no_bytes_do_more_than_a_protocol_error_and_the_pieces_do_not_count(data: bytes, cuts: list[int]) -> None:
    announced = [(ID, 5), (OTHER, 0)]
    whole = outcome(reader(announced), data)
    assert outcome(reader(announced), data, cuts) == whole
    assert outcome(reader(announced), data, range(len(data))) == whole


def test_a_reader_is_done_with_the_last_byte_and_not_before() -> None:
    streams, buffer = StreamReader([(ID, 5), (OTHER, 0)]), ReceiveBuffer()
    for sent, done in ((HELLO, False), (block(OTHER, b"")[:-1], False), (b"\0", True)):
        buffer.feed(sent)
        while not streams.done and streams.next_event(buffer) is not None:
            pass
        assert streams.done is done
    assert StreamReader([]).done


def test_a_large_stream_comes_as_it_arrives_in_chunks() -> None:
    content = bytes(range(256)) * 4096
    streams, buffer = StreamReader([(ID, len(content))]), ReceiveBuffer()
    buffer.feed(block(ID, content)[:1_000_000])
    assert streams.next_event(buffer) == StreamBegin(ID, len(content))
    received = b""
    while (event := streams.next_event(buffer)) is not None:
        assert isinstance(event, StreamChunk)
        assert 0 < len(event.data) <= 256 * 1024
        received += event.data
    assert received == content[: 1_000_000 - 24]


@pytest.mark.parametrize(
    "recorded", [pytest.param(c, id=c.name) for c in conversations() if "load" in c.name or "files" in c.name]
)
def test_recorded_streams_are_read_and_written_again(recorded: Recorded) -> None:
    found = 0
    for turn in recorded.turns:
        for part in (part for part in turn.parts if part.get("data_streams")):
            streams = [(UUID(s["id"]), bytes.fromhex(s["body_hex"])) for s in part["data_streams"]]
            announced = tuple((UUID(s["id"]), s["length"]) for s in part["data_streams"])
            writer = StreamWriter(announced)
            sent = b"".join(b for s in streams for event in events_of(*s) for b in writer.send(event))
            assert sent in turn.data
            assert outcome(reader(announced), sent, [1, 16, 24, 25, len(sent) - 1]) == (streams, b"")
            found += len(streams)
    assert found


# --- writing -----------------------------------------------------------------------------------------------------


def test_a_block_is_written_in_its_four_parts() -> None:
    writer = StreamWriter(((ID, 5),))
    sent = [writer.send(event) for event in events_of(ID, b"hello", [2])]
    assert sent == [[HELLO[:16], HELLO[16:24]], [b"he"], [b"llo"], [HELLO[29:]]]
    assert writer.done


@given(CONTENTS, CUTS)
def test_what_is_written_is_read_again(contents: list[bytes], cuts: list[int]) -> None:
    announced, streams = announcing(contents)
    writer, sent = StreamWriter(announced), b""
    for stream in streams:
        for event in events_of(*stream, cuts):
            assert not writer.done
            writes = writer.send(event)
            assert all(writes)
            sent += b"".join(writes)
    assert writer.done
    assert sent == b"".join(block(*stream) for stream in streams)
    assert outcome(reader(announced), sent, cuts) == (streams, b"")


BEGIN = StreamBegin(ID, 2)


@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        ([], StreamBegin(ID, 3)),
        ([], StreamBegin(OTHER, 2)),
        ([], StreamBegin(OTHER, 1)),
        ([], StreamChunk(b"x")),
        ([], StreamChunk(b"")),
        ([], StreamEnd()),
        ([BEGIN], BEGIN),
        ([BEGIN], StreamBegin(OTHER, 1)),
        ([BEGIN], StreamChunk(b"xyz")),
        ([BEGIN], StreamEnd()),
        ([BEGIN, StreamChunk(b"x")], StreamEnd()),
        ([BEGIN, StreamChunk(b"x")], StreamChunk(b"yz")),
        ([BEGIN, StreamChunk(b"xy")], StreamChunk(b"z")),
        ([BEGIN, StreamChunk(b"xy"), StreamEnd()], StreamEnd()),
        ([BEGIN, StreamChunk(b"xy"), StreamEnd()], BEGIN),
    ],
)
def test_we_cannot_send_what_we_did_not_announce(before: list[StreamEvent], wrong: StreamEvent) -> None:
    writer = StreamWriter(((ID, 2), (OTHER, 1)))
    for event in before:
        writer.send(event)
    with pytest.raises(LocalProtocolError):
        writer.send(wrong)
    assert not writer.done
    # Nothing of it was sent: what is right can follow.
    rest = [*events_of(ID, b"xy", [1]), *events_of(OTHER, b"z")]
    taken = sum(len(event.data) if isinstance(event, StreamChunk) else 1 for event in before)
    for event in rest[taken:]:
        writer.send(event)
    assert writer.done


def test_a_writer_without_streams_is_done() -> None:
    assert StreamWriter(()).done
    with pytest.raises(LocalProtocolError):
        StreamWriter(()).send(StreamBegin(ID, 0))


# --- announcements -----------------------------------------------------------------------------------------------


def announced_with(*lengths: int) -> Announced:
    return tuple((uuid4(), length) for length in lengths)


@pytest.mark.parametrize("lengths", [(), (0,), (100,), (0, 100, 50)])
def test_announcements_up_to_the_limits_are_accepted(lengths: tuple[int, ...]) -> None:
    check_announced(announced_with(*lengths), SMALL)


@pytest.mark.parametrize("lengths", [(-1,), (101,), (1, 1, 1, 1), (0, 0, 2**63 - 1), (-(2**63),)])
def test_announcements_beyond_the_limits_are_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError):
        check_announced(announced_with(*lengths), SMALL)


def test_one_id_twice_is_refused() -> None:
    for streams in (((ID, 1), (ID, 1)), ((ID, 1), (OTHER, 1), (ID, 2))):
        with pytest.raises(ProtocolError):
            check_announced(streams, SMALL)


def test_our_own_limits_are_the_specified_ones() -> None:
    """docs/spec/wire.md, "Limits"."""
    many = announced_with(*range(1024))
    check_announced(many, Limits())
    check_announced(announced_with(1024**4), Limits())
    for too_much in ((*many, (ID, 0)), announced_with(1024**4 + 1)):
        with pytest.raises(ProtocolError):
            check_announced(too_much, Limits())
