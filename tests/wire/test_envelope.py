"""A message as one raw deflate stream: what is packed comes out again, within limits, and what is behind it is left
(docs/spec/wire.md, "Message framing" and "Records and old peers").
"""

from __future__ import annotations

import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.wire.buffer import ReceiveBuffer
from tentacle.wire.envelope import Inflater, deflate, split_for_records
from tentacle.wire.errors import ProtocolError
from tentacle.wire.limits import Limits
from tests.recorded import Recorded, conversations
from tests.wire.cuts import CUTS, REFUSED, Parser, in_every_cut, outcome

RECORD = 16 * 1024
EMPTY_MESSAGE = bytes.fromhex("0E 00 00 00 0A 4D 65 73 73 61 67 65 00 00")
SMALL = Limits(deflated_message=200, inflated_message=1000)


def inflater(limits: Limits | None = None) -> Parser[bytes | bytearray]:
    return Inflater(limits or Limits()).take


def stored(plain: bytes) -> bytes:
    """`plain` as a deflate stream that does not compress: five bytes more for every 65,535."""
    compressor = zlib.compressobj(0, wbits=-15)
    return compressor.compress(plain) + compressor.flush()


# --- packing -----------------------------------------------------------------------------------------------------


def test_the_empty_message_is_the_specified_one() -> None:
    """docs/spec/wire.md, "Worked bytes"."""
    packed = bytes.fromhex("E3 63 60 60 E0 F2 4D 2D 2E 4E 4C 4F 65 60 00 00")
    assert deflate(EMPTY_MESSAGE) == packed
    assert in_every_cut(inflater, packed + b"NEXT\r\n") == (EMPTY_MESSAGE, b"NEXT\r\n")


@given(st.binary(max_size=300), st.integers(1, 5), st.binary(max_size=40), CUTS)
def test_what_is_packed_comes_out_again_and_what_is_behind_it_is_left(
    plain: bytes, times: int, behind: bytes, cuts: list[int]
) -> None:
    packed = deflate(plain * times)
    assert zlib.decompress(packed, -15) == plain * times
    assert outcome(inflater(), packed + behind, cuts) == (plain * times, behind)


def test_a_long_message_is_packed_fast() -> None:
    """docs/spec/wire.md, "Message framing": a fastest level for messages of 256 KiB and more."""

    def packed(plain: bytes, level: int) -> bytes:
        compressor = zlib.compressobj(level, wbits=-15)
        return compressor.compress(plain) + compressor.flush()

    long = b"".join(str(number * number).encode() for number in range(50_000))[: 256 * 1024]
    assert len(long) == 256 * 1024
    assert deflate(long) == packed(long, 1)
    assert deflate(long[1:]) == packed(long[1:], -1)
    assert outcome(inflater(), deflate(long), [70_000]) == (long, b"")


# --- records -----------------------------------------------------------------------------------------------------


def check_records(size: int) -> None:
    data = (b"0123456789abcdefghijk" * (size // 21 + 1))[:size]
    records = split_for_records(data)
    assert b"".join(records) == data
    assert all(0 < len(record) <= RECORD for record in records)
    assert len(records) == -(-size // RECORD)
    assert len(records) < 2 or len(records[-1]) >= 1024


@given(st.integers(0, 200_000))
def test_records_lose_nothing_and_never_end_in_a_crumb(size: int) -> None:
    check_records(size)


@pytest.mark.parametrize("full", [1, 2, 3, 8])
@pytest.mark.parametrize("more", [-1, 0, 1, 2, 1022, 1023, 1024, 1025])
def test_records_at_their_edges(full: int, more: int) -> None:
    check_records(full * RECORD + more)


def test_only_the_last_two_records_are_changed_for_a_crumb() -> None:
    sizes = [len(record) for record in split_for_records(bytes(3 * RECORD + 100))]
    assert sizes == [RECORD, RECORD, (RECORD + 100) // 2, (RECORD + 100) // 2]
    assert [len(record) for record in split_for_records(bytes(RECORD + 1024))] == [RECORD, 1024]
    assert split_for_records(b"") == []


# --- inflating ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", [pytest.param(c, id=c.name) for c in conversations()])
def test_every_recorded_message_comes_out_whatever_packed_it(recorded: Recorded) -> None:
    for turn in recorded.turns:
        position = 0
        for part in turn.parts:
            if "control" in part:
                position += len(part["control"].encode())
                continue
            rest = turn.data[position:]
            plain, behind = outcome(inflater(), rest, [1, 7, 60, len(rest) - 1])
            assert plain == bytes.fromhex(part["bson_hex"])
            assert len(rest) - len(behind) == part["deflated_bytes"]
            position += part["deflated_bytes"] + sum(32 + stream["length"] for stream in part["data_streams"])
        assert position == len(turn.data)


def test_a_deflate_tail_that_comes_late_belongs_to_the_message() -> None:
    """Halibut 3.x sends a last empty block in a record of its own (docs/spec/wire.md, "Message framing")."""
    compressor = zlib.compressobj(wbits=-15)
    head = compressor.compress(EMPTY_MESSAGE) + compressor.flush(zlib.Z_SYNC_FLUSH)
    tail = compressor.flush()
    assert tail == b"\x03\x00"
    reader, buffer = Inflater(Limits()), ReceiveBuffer()
    buffer.feed(head)
    assert reader.take(buffer) is None
    buffer.feed(tail + b"NEXT\r\n")
    assert reader.take(buffer) == EMPTY_MESSAGE
    assert buffer.take(99) == b"NEXT\r\n"


def test_a_reader_has_not_started_before_the_first_byte() -> None:
    reader, buffer = Inflater(Limits()), ReceiveBuffer()
    started = []
    for arrives in (b"", b"\xe3", b""):
        buffer.feed(arrives)
        assert reader.take(buffer) is None
        started.append(reader.started)
    assert started == [False, True, True]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff\xff",
        b"NEXT\r\n",
        deflate(EMPTY_MESSAGE)[:-1],
        zlib.compress(EMPTY_MESSAGE),
        stored(b"x" * 50)[:-1],
        stored(b"x" * 30)[:20] + b"y" * 5,
    ],
)
def test_what_is_no_whole_deflate_stream_is_refused(data: bytes) -> None:
    assert in_every_cut(inflater, data)[0] is REFUSED


PACKED = st.binary(max_size=80) | st.tuples(st.binary(max_size=60), st.integers(0, 60), st.integers(0, 255)).map(
    lambda made: damaged(deflate(made[0]), made[1], made[2])
)


def damaged(data: bytes, place: int, byte: int) -> bytes:
    place %= len(data)
    return data[:place] + bytes([byte]) + data[place + 1 :]


@given(PACKED, CUTS)
@example(b"\x00\x00\x00\xff\xff" * 10 + b"\x03\x00\x03\x00", [3])
def test_the_pieces_do_not_count_and_no_bytes_do_more_than_a_protocol_error(data: bytes, cuts: list[int]) -> None:
    whole = outcome(inflater(), data)
    assert outcome(inflater(), data, cuts) == whole
    assert outcome(inflater(), data, range(len(data))) == whole


@pytest.mark.parametrize("cuts", [[], [1], range(2000)], ids=["whole", "two", "bytes"])
@pytest.mark.parametrize("behind", [b"", b"\r"])
def test_the_limit_of_the_plain_text_is_exact(cuts: list[int], behind: bytes) -> None:
    longest = b"\0" * 1000
    assert outcome(inflater(SMALL), deflate(longest) + behind, cuts) == (longest, behind)
    assert outcome(inflater(SMALL), deflate(longest + b"\0") + behind, cuts)[0] is REFUSED
    # It is refused as soon as it is too long, and not for want of an end.
    assert outcome(inflater(SMALL), deflate(b"\0" * 100_000)[:-1], cuts, closed=False)[0] is REFUSED


@pytest.mark.parametrize("cuts", [[], [1], [199], [200], range(300)], ids=["whole", "two", "one less", "all", "bytes"])
def test_the_limit_of_the_packed_bytes_is_exact(cuts: list[int]) -> None:
    longest = b"x" * 195
    assert len(stored(longest)) == 200
    assert outcome(inflater(SMALL), stored(longest), cuts) == (longest, b"")
    assert outcome(inflater(SMALL), stored(longest + b"x"), cuts)[0] is REFUSED


def test_what_is_behind_a_message_does_not_count_against_its_limit() -> None:
    longest, behind = b"x" * 195, b"a data stream" * 20
    assert outcome(inflater(SMALL), stored(longest) + behind, [200]) == (longest, behind)
    assert outcome(inflater(SMALL), stored(longest) + behind) == (longest, behind)


def test_endless_empty_blocks_are_refused() -> None:
    """A deflate stream may go on for ever without giving a single byte."""
    assert outcome(inflater(SMALL), b"\x00\x00\x00\xff\xff" * 41, closed=False)[0] is REFUSED


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    reader, buffer = Inflater(Limits(inflated_message=100_000)), ReceiveBuffer()
    buffer.feed(deflate(bytes(20_000_000)))
    with pytest.raises(ProtocolError):
        reader.take(buffer)
    assert len(reader.plain) <= 100_001


@given(st.integers(1, 400_000), CUTS)
@example(64 * 1024, [])
@example(200_000, [])
def test_it_pauses_when_no_more_is_allowed_and_goes_on_when_more_is(length: int, cuts: list[int]) -> None:
    plain, allowed = bytes(length), 0
    reader = Inflater(Limits())

    def take(buffer: ReceiveBuffer) -> bytes | bytearray | None:
        nonlocal allowed
        while (found := reader.take(buffer, allowed)) is None and reader.paused:
            assert allowed <= len(reader.plain) <= allowed + 64 * 1024
            allowed = len(reader.plain) + 10_000
        return found

    assert outcome(take, deflate(plain) + b"NEXT", cuts) == (plain, b"NEXT")
    assert reader.take(ReceiveBuffer(), 0) == plain, "the end may be asked for again"
