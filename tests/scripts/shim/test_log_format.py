from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.shim.log_format import (
    HEADER,
    KINDS,
    LATEST,
    LONGEST_BODY,
    OUT,
    CorruptRecordError,
    parse_header,
    record,
    require_whole,
)

BODIES = st.binary(max_size=200)


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 2**62), BODIES, st.binary(max_size=5))
def test_what_is_written_is_read(kind: bytes, occurred: int, body: bytes, before: bytes) -> None:
    buffer = before + record(kind, occurred, body) + b"more"
    header = parse_header(buffer, len(before))
    assert header is not None
    assert (header.kind, header.occurred, buffer[header.body : header.end]) == (kind, occurred, body)
    require_whole(buffer, len(before), header)


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 2**45), BODIES)
def test_a_torn_header_is_not_read_yet(kind: bytes, occurred: int, body: bytes) -> None:
    whole = record(kind, occurred, body)
    assert all(parse_header(whole[:end], 0) is None for end in range(HEADER))


@given(st.sampled_from(sorted(KINDS)), BODIES, st.data())
def test_a_changed_record_is_told_from_a_whole_one(kind: bytes, body: bytes, data: st.DataObject) -> None:
    changed = bytearray(record(kind, 7, body))
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    buffer = bytes(changed)
    try:
        header = parse_header(buffer, 0)
        if header is None or header.end > len(buffer):
            return
        with pytest.raises(CorruptRecordError):
            require_whole(buffer, 0, header)
    except CorruptRecordError:
        return


def test_a_length_that_no_writer_uses_is_rubbish() -> None:
    fine = record(OUT, 1, b"")
    with pytest.raises(CorruptRecordError):
        parse_header(fine[:4] + (LONGEST_BODY + 1).to_bytes(4, "little") + fine[8:], 0)


@given(st.binary(max_size=100), st.integers(0, 100))
def test_nothing_else_ever_happens(data: bytes, position: int) -> None:
    try:
        header = parse_header(data, position)
    except CorruptRecordError:
        return
    assert header is None or header.kind in KINDS


def test_a_moment_that_no_server_can_be_told_is_rubbish() -> None:
    assert parse_header(record(OUT, LATEST, b""), 0) is not None
    with pytest.raises(CorruptRecordError):
        parse_header(record(OUT, LATEST + 1, b""), 0)
