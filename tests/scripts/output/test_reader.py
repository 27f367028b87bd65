"""Pages of a durable log (docs/spec/services.md, "Log paging")."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.scripts.output.reader import LogReader, Page
from tentacle.scripts.shim.log_format import DEBUG_ENTRY, ERR, ERR_ENTRY, OUT, OUT_ENTRY, VERSION, record
from tentacle.scripts.shim.log_writer import open_log
from tests.scripts.lab import ENDED

MEBIBYTE = 1024 * 1024


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    descriptor = open_log(str(tmp_path / "log"))
    yield descriptor
    os.close(descriptor)


def read(
    log: int, after: int = 0, page: int = MEBIBYTE, reader: LogReader | None = None, *, ended: bool = True
) -> Page:
    return (reader or LogReader(1000)).read(log, after, page, ended=ENDED if ended else None)


def texts(page: Page) -> list[str]:
    return [entry.text for entry in page.entries]


def test_entries_have_source_time_and_text(log: int) -> None:
    os.write(log, record(OUT_ENTRY, 1, b"a\nb") + record(DEBUG_ENTRY, 2, b"") + record(ERR_ENTRY, 3, b"c"))
    os.write(log, record(OUT, 4, b"d\n") + record(ERR, 5, b"e\n"))
    out, err, debug = ProcessOutputSource.STD_OUT, ProcessOutputSource.STD_ERR, ProcessOutputSource.DEBUG
    assert read(log).entries == (
        ProcessOutput(out, 1, "a\nb"),
        ProcessOutput(debug, 2, ""),
        ProcessOutput(err, 3, "c"),
        ProcessOutput(out, 4, "d"),
        ProcessOutput(err, 5, "e"),
    )


def test_an_open_line_comes_when_its_stream_ends_and_streams_do_not_mix(log: int) -> None:
    os.write(log, record(OUT, 1, b"out ") + record(ERR, 2, b"err ") + record(OUT, 3, b"put\nopen"))
    assert texts(read(log, ended=False)) == ["out put"]
    os.write(log, record(OUT, 4, b"") + record(ERR, 4, b"") + record(OUT, 5, b""))
    assert texts(read(log)) == ["out put", "open", "err "]


def test_a_torn_end_is_not_read_yet_and_then_corrupt(log: int) -> None:
    whole = record(OUT_ENTRY, 7, b"whole")
    for cut in range(1, len(whole)):
        os.ftruncate(log, len(VERSION))
        os.write(log, whole + whole[:cut])
        assert texts(read(log, ended=False)) == ["whole"]
        page = read(log)
        assert texts(page) == ["whole", "Corrupt Tentacle log at line 2, no more logs will be read"]
        assert page.entries[1].source is ProcessOutputSource.STD_ERR
        assert page.entries[1].occurred == ENDED.ended
        assert page.next_sequence == 2
        assert texts(read(log, after=1)) == ["Corrupt Tentacle log at line 2, no more logs will be read"]
        assert texts(read(log, after=2)) == []


def test_rubbish_ends_the_log(log: int) -> None:
    os.write(log, record(OUT_ENTRY, 1, b"one") + b"somebody was here\n" + record(OUT_ENTRY, 2, b"two"))
    assert texts(read(log, ended=False)) == ["one"]
    assert texts(read(log)) == ["one", "Corrupt Tentacle log at line 2, no more logs will be read"]


def test_the_end_of_what_can_be_read_is_known(log: int) -> None:
    os.write(log, record(OUT, 1, b"x" * 1000) * 1000)
    end = os.fstat(log).st_size
    assert LogReader(1000).readable_end(log) == end
    os.write(log, b"o 1 5\nab")
    assert LogReader(1000).readable_end(log) == end


RECORDS = st.lists(
    st.tuples(
        st.sampled_from([OUT, ERR, OUT_ENTRY, DEBUG_ENTRY]),
        st.sampled_from([b"", b"a", b"a\nb\n", b"\r", b"\n", b"x" * 50, b"1\n2\n3\n4\n5\n6\n", "ž".encode()]),
    ),
    max_size=25,
)


@settings(max_examples=80)
@given(RECORDS, st.integers(1, 300), st.lists(st.integers(-2, 60), max_size=6))
def test_pages_of_any_size_from_anywhere_tell_the_same(
    records: list[tuple[bytes, bytes]], page_bytes: int, places: list[int]
) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(record(kind, i, body) for i, (kind, body) in enumerate(records)))
        file.flush()
        log = file.fileno()
        whole = read(log)
        assert whole.next_sequence == len(whole.entries)
        reader, more = LogReader(1000), True
        found: list[ProcessOutput] = []
        while more:
            page = read(log, len(found), page_bytes, reader)
            assert page.entries or not page.more
            assert page.next_sequence == len(found) + len(page.entries)
            found += page.entries
            more = page.more
        assert tuple(found) == whole.entries
        for place in places:
            page = read(log, place, page_bytes, reader)
            assert page.entries == whole.entries[max(place, 0) :][: len(page.entries)]
            assert page.more == (max(place, 0) + len(page.entries) < len(whole.entries))


def test_a_page_goes_on_where_the_last_one_ended(log: int) -> None:
    reader = LogReader(1000)
    os.write(log, record(OUT, 1, b"line\n" * 10_000) * 20)
    after, pages, more = 0, 0, True
    while more:
        page = read(log, after, MEBIBYTE, reader, ended=False)
        after, pages, more = page.next_sequence, pages + 1, page.more
    assert pages > 3
    assert reader.unread(log, after) == 0
    os.write(log, record(OUT, 2, b"new\n"))
    assert reader.unread(log, after) < 100
    assert texts(read(log, after, MEBIBYTE, reader, ended=False)) == ["new"]


def test_memory_does_not_follow_the_log(log: int) -> None:
    block = record(OUT, 1, b"x" * 65536) * 16
    for _ in range(40):
        os.write(log, block)
    reader, after, more = LogReader(MEBIBYTE), 0, True
    tracemalloc.start()
    try:
        while more:
            page = reader.read(log, after, 2 * MEBIBYTE, ended=None)
            after, more = page.next_sequence, page.more
        assert tracemalloc.get_traced_memory()[1] < 16 * MEBIBYTE
    finally:
        tracemalloc.stop()
    assert after == 39


def test_a_file_of_another_kind_is_corrupt_from_its_first_line(log: int) -> None:
    os.ftruncate(log, 0)
    assert texts(read(log)) == []
    os.write(log, b"tentacle lo")
    assert texts(read(log, ended=False)) == []
    os.write(log, b"ve 1\n" + record(OUT, 1, b"x\n"))
    assert texts(read(log, ended=False)) == []
    assert texts(read(log)) == ["Corrupt Tentacle log at line 1, no more logs will be read"]


def test_the_end_of_the_run_adds_what_the_log_had_no_room_for_page_by_page(log: int) -> None:
    os.write(log, record(OUT, 1, b"whole\nopen") + record(ERR, 2, b"left"))
    ended = ENDED._replace(exit_code=3, lost=12, kind=DEBUG_ENTRY, reason="Process exited with code 3")
    whole = LogReader(1000).read(log, 0, MEBIBYTE, ended=ended)
    assert [(entry.source.name, entry.text) for entry in whole.entries] == [
        ("STD_OUT", "whole"),
        ("STD_OUT", "open"),
        ("STD_ERR", "left"),
        (
            "STD_ERR",
            "Tentacle could not write 12 bytes of this script's output to its log. They are lost; the script itself "
            "was not disturbed.",
        ),
        ("DEBUG", "Process exited with code 3"),
    ]
    reader, more = LogReader(1000), True
    paged: list[ProcessOutput] = []
    while more:
        page = reader.read(log, len(paged), 1, ended=ended)
        paged += page.entries
        more = page.more
        assert page.next_sequence == len(paged)
    assert tuple(paged) == whole.entries
    assert [LogReader(1000).read(log, after, MEBIBYTE, ended=ended).entries for after in range(6)] == [
        whole.entries[after:] for after in range(6)
    ]


def test_the_ends_of_pages_do_not_keep_many_lines_that_are_open_there(log: int) -> None:
    reader = LogReader(MEBIBYTE)
    for _ in range(16):
        os.write(log, record(OUT, 1, b"x" * (MEBIBYTE * 3 // 4)))
    after, kept = 0, list[int]()
    tracemalloc.start()
    try:
        while (page := read(log, after, MEBIBYTE, reader, ended=False)).entries:
            after = page.next_sequence
            del page
            kept.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert len(kept) > 6
    assert max(kept) < 4 * MEBIBYTE
