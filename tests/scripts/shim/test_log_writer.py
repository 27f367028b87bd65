from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.output.reader import LogReader
from tentacle.scripts.output.record_reader import RecordReader
from tentacle.scripts.shim.log_format import ERR, ERR_ENTRY, OUT, VERSION, record
from tentacle.scripts.shim.log_writer import LogWriter, open_log
from tests.scripts.lab import ENDED
from tests.small_files import small_files


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    descriptor = open_log(str(tmp_path / "log"))
    yield descriptor
    os.close(descriptor)


def test_pieces_are_records_with_the_time(log: int) -> None:
    LogWriter(log, lambda: 12).write([(OUT, b"a\n"), (ERR_ENTRY, b"b")])
    assert os.pread(log, 1000, 0) == VERSION + record(OUT, 12, b"a\n") + record(ERR_ENTRY, 12, b"b")


def test_what_does_not_fit_is_taken_back_counted_and_told(log: int) -> None:
    writer = LogWriter(log, lambda: 12)
    writer.write([(OUT, b"begin ")])
    before = os.fstat(log).st_size
    with small_files(4000):
        writer.write([(OUT, b"x" * 5000)])
        assert (os.fstat(log).st_size, writer.lost) == (before, 5000)
        # Now that the entry that tells of them has room, they count no more.
        writer.write([(OUT, b"y" * 3950)])
        assert (os.fstat(log).st_size > before, writer.lost) == (True, 3950)
        writer.write([(OUT, b"end\n")])
    assert writer.lost == 0
    texts = [entry.text for entry in LogReader(1000).read(log, 0, 10_000, ended=ENDED).entries]
    assert texts == [
        "begin ",
        *(
            f"Tentacle could not write {number} bytes of this script's output to its log: File too large. They are "
            "lost; the script itself was not disturbed."
            for number in (5000, 3950)
        ),
        "end",
    ]


def test_whole_records_of_a_block_that_did_not_fit_stay(log: int) -> None:
    """A reader may have seen them: what it has read must not be cut off behind its back."""
    writer, reader = LogWriter(log, lambda: 12), LogReader(1000)
    with small_files(4000):
        assert not writer.write([(OUT, b"seen\n"), (OUT, b"x" * 5000), (OUT, b"never\n")])
    assert [entry.text for entry in reader.read(log, 0, 10_000, ended=None).entries] == ["seen"]
    assert writer.lost == 5006
    assert writer.write([(OUT, b"end\n")])
    assert writer.lost == 0
    rest = [entry.text for entry in reader.read(log, 1, 10_000, ended=ENDED).entries]
    assert rest[0].startswith("Tentacle could not write 5006 bytes of this script's output to its log: File too large.")
    assert rest[1:] == ["end"]


@given(st.lists(st.lists(st.tuples(st.sampled_from([OUT, ERR]), st.binary(max_size=700)), max_size=5), max_size=12))
def test_on_a_disk_that_fills_up_every_byte_is_in_the_log_or_counted(blocks: list[list[tuple[bytes, bytes]]]) -> None:
    log = os.memfd_create("log", os.MFD_ALLOW_SEALING)
    os.write(log, VERSION)
    os.lseek(log, 0, os.SEEK_END)
    fcntl.fcntl(log, fcntl.F_SETFL, os.O_APPEND)
    writer = LogWriter(log, lambda: 12)
    with small_files(2000):
        for block in blocks:
            writer.write(block)
    reader, found, told = RecordReader(log, 0), 0, 0
    while (one := reader.next()) is not None:
        if one[0] in (OUT, ERR):
            found += len(one[2])
        else:
            told += int(one[2].split()[4])
    assert not reader.has_more_bytes()
    assert found + told + writer.lost == sum(len(body) for block in blocks for _, body in block)
    os.close(log)
