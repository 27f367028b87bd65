from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentacle.scripts.output.reader import LogReader
from tentacle.scripts.shim.log_format import ERR_ENTRY, OUT, frame
from tentacle.scripts.shim.log_writer import Journal


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files may have 4000 bytes: a write beyond is cut, the next one fails, as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_pieces_are_records_with_the_time(log: int) -> None:
    Journal(log, lambda: 12).write([(OUT, b"a\n"), (ERR_ENTRY, b"b")])
    assert os.pread(log, 1000, 0) == frame(OUT, 12, b"a\n") + frame(ERR_ENTRY, 12, b"b")


def test_what_does_not_fit_is_taken_back_counted_and_told(log: int, small_files: None) -> None:
    journal = Journal(log, lambda: 12)
    journal.write([(OUT, b"begin ")])
    before = os.fstat(log).st_size
    journal.write([(OUT, b"x" * 5000)])
    assert (os.fstat(log).st_size, journal.lost) == (before, 5000)
    journal.write([(OUT, b"y" * 3950)])
    assert (os.fstat(log).st_size, journal.lost) == (before, 8950)
    journal.write([(OUT, b"end\n")])
    assert journal.lost == 0
    texts = [entry.text for entry in LogReader(1000).read(log, 0, 10_000, ended=True).entries]
    assert texts == [
        "begin ",
        "Tentacle could not write 8950 bytes of this script's output to its log: File too large. They are lost; the "
        "script itself was not disturbed.",
        "end",
    ]
