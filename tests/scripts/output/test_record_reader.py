"""Records of a log, one after another, however small the buffer is and wherever the log ends at the moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.output.record_reader import RecordReader
from tentacle.scripts.shim.log_format import ERR, HEADER, KINDS, OUT, VERSION, CorruptRecordError, record

Record = tuple[bytes, int, bytes]
RECORDS = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 2**62), st.binary(max_size=60)), max_size=12
)
SIZES = st.integers(HEADER, 100)
"""A buffer has room for a header at least."""


@contextmanager
def log_of(data: bytes) -> Iterator[int]:
    log = os.memfd_create("log")
    try:
        os.write(log, data)
        yield log
    finally:
        os.close(log)


def whole(records: list[Record]) -> bytes:
    return VERSION + b"".join(record(*one) for one in records)


def rest_of(reader: RecordReader) -> list[Record]:
    found = []
    while (one := reader.next()) is not None:
        found.append(one)
    return found


@given(RECORDS, SIZES)
def test_every_record_comes_once_and_in_order_through_any_buffer(records: list[Record], size: int) -> None:
    data = whole(records)
    with log_of(data) as log:
        reader = RecordReader(log, 0, size)
        assert rest_of(reader) == records
        assert reader.offset == len(data)
        assert not reader.has_more_bytes()


@given(RECORDS, SIZES, st.integers(0, 12))
def test_a_reader_goes_on_where_another_one_was(records: list[Record], size: int, read: int) -> None:
    with log_of(whole(records)) as log:
        first = RecordReader(log, 0)
        before = [first.next() for _ in range(min(read, len(records)))]
        assert before + rest_of(RecordReader(log, first.offset, size)) == records


@given(RECORDS, SIZES, st.lists(st.integers(0, 500), max_size=6))
def test_of_a_log_that_grows_only_whole_records_come_and_each_once(
    records: list[Record], size: int, ends: list[int]
) -> None:
    data = whole(records)
    with log_of(b"") as log:
        reader, found, written = RecordReader(log, 0, size), list[Record](), 0
        for end in (*sorted(ends), len(data)):
            written += os.write(log, data[written:end])
            found += rest_of(reader)
            assert found == records[: len(found)]
            assert reader.offset <= written
            assert reader.has_more_bytes() is (reader.offset < written)
        assert found == records


@given(RECORDS, SIZES, st.data())
def test_a_changed_log_gives_no_changed_record(records: list[Record], size: int, data: st.DataObject) -> None:
    changed = bytearray(whole(records))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    with log_of(bytes(changed)) as log:
        reader, found = RecordReader(log, 0, size), list[Record]()
        try:
            while (one := reader.next()) is not None:
                found.append(one)
        except CorruptRecordError:
            pass
        assert found == records[: len(found)]
        assert len(found) < len(records) or not records


@pytest.mark.parametrize("data", [b"tentacle log 2\n", b"x", VERSION[:5] + b"x", b"\n" + VERSION])
def test_a_file_of_another_kind_is_corrupt_from_its_first_byte(data: bytes) -> None:
    with log_of(data) as log, pytest.raises(CorruptRecordError):
        RecordReader(log, 0).next()


def test_a_record_that_was_corrupt_for_a_moment_is_read_when_it_is_whole() -> None:
    one, other = record(OUT, 1, b"one\n"), record(ERR, 2, b"other\n")
    with log_of(VERSION + one + bytes(len(other))) as log:
        reader = RecordReader(log, 0)
        assert reader.next() == (OUT, 1, b"one\n")
        with pytest.raises(CorruptRecordError):
            reader.next()
        os.pwrite(log, other, len(VERSION) + len(one))
        assert RecordReader(log, reader.offset).next() == (ERR, 2, b"other\n")


def test_a_long_record_needs_no_more_than_itself_in_memory() -> None:
    body = b"x" * 1_000_000
    with log_of(VERSION + record(OUT, 1, body) + record(OUT, 2, b"short")) as log:
        reader = RecordReader(log, 0, 100)
        assert reader.next() == (OUT, 1, body)
        assert reader.next() == (OUT, 2, b"short")
        assert len(reader._buffer) <= 100
