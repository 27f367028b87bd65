"""KnownSecrets values do not get through a log, in whatever pieces a script has written them."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.masking import MASK, Mask
from tentacle.scripts.output.line_masking import WITHHELD, LineMasking, NoMoreLines
from tentacle.scripts.output.lines import NOTHING_OPEN, cut_mark, flush, split
from tentacle.scripts.output.reader import LogReader, Page
from tentacle.scripts.shim.log_format import DEBUG_ENTRY, ERR, OUT, OUT_ENTRY, VERSION, record
from tests.scripts.lab import ENDED

SECRET = "correct-horse"
PAGE = 1024 * 1024


@pytest.fixture
def log() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        os.write(file.fileno(), VERSION)
        yield file.fileno()


def read(log: int, reader: LogReader | None = None, after: int = 0, *, ended: bool = True, page: int = PAGE) -> Page:
    return (reader or a_reader()).read(log, after, page, ended=ENDED if ended else None)


def a_reader(now: int = 0, limit: int = 1000) -> LogReader:
    """As of the time `now`."""
    return LogReader(limit, Mask([SECRET]), lambda: now)


def texts(page: Page) -> list[str]:
    return [entry.text for entry in page.entries]


# --- against a reference ---------------------------------------------------------------------------------------------

VALUES = st.lists(st.text(alphabet="ab\r\n", min_size=2, max_size=5), min_size=1, max_size=3)
RECORDS = st.lists(
    st.tuples(st.sampled_from([OUT, ERR]), st.text(alphabet="abc\n\n\r", max_size=12).map(str.encode))
    # What is said in one piece has line ends that do not count; `tests/test_masking.py` looks at those.
    | st.tuples(st.just(OUT_ENTRY), st.text(alphabet="abc", max_size=12).map(str.encode)),
    max_size=16,
)


def reference(records: list[tuple[bytes, bytes]], values: list[str], limit: int) -> list[str]:
    """All lines first, then each stream as one text, then every place of it tried with every value.

    The end of the run ends the lines that are open.
    """
    states = {OUT: NOTHING_OPEN, ERR: NOTHING_OPEN}
    entries: list[tuple[object, str, str]] = []
    for number, (kind, body) in enumerate([*records, (OUT, b""), (ERR, b"")]):
        if kind not in states:
            entries.append((number, body.decode(), ""))
            continue
        states[kind], lines = split(states[kind], body, limit) if body else (NOTHING_OPEN, flush(states[kind]))
        for i, text in enumerate(lines.texts):
            entries.append((kind, text, cut_mark(limit) if i in lines.cut else ""))
    covered = {number: [False] * len(text) for number, (_, text, _) in enumerate(entries)}
    for stream in {kind for kind, _, _ in entries}:
        places = [(n, i) for n, (kind, text, _) in enumerate(entries) if kind == stream for i in range(len(text))]
        joined = "".join(entries[n][1][i] for n, i in places)
        for value in values:
            for start in range(len(joined) - len(value) + 1):
                if value and joined[start : start + len(value)] == value:
                    for n, i in places[start : start + len(value)]:
                        covered[n][i] = True
    return [
        "".join("" if covered[n][i] else c for i, c in enumerate(text)) + mark
        for n, (_, text, mark) in enumerate(entries)
    ]


@settings(max_examples=150)
@given(RECORDS, VALUES, st.integers(8, 40), st.integers(1, 200))
@example([(OUT, b"a\n"), (ERR, b"b\n"), (OUT, b"b\n")], ["ab"], 40, 1)
@example([(OUT, b"a\n\n\n"), (OUT, b"\n\nb"), (OUT, b"")], ["ab"], 40, 1)
def test_every_value_is_covered_and_nothing_else(
    records: list[tuple[bytes, bytes]], values: list[str], limit: int, page_bytes: int
) -> None:
    """Also: a log that is read while it grows, in small pages, says the same as one that is read at once."""
    values = [value.replace("\r", "").replace("\n", "") for value in values]
    mask = Mask(values)
    expected = reference(records, values, limit)
    with tempfile.TemporaryFile() as file:
        log, growing = file.fileno(), LogReader(limit, mask, lambda: 0)
        os.write(log, VERSION)
        live: list[ProcessOutput] = []
        for number, (kind, body) in enumerate(records):
            os.write(log, record(kind, number, body))
            page = growing.read(log, len(live), page_bytes, ended=None)
            live += page.entries
            assert page.next_sequence == len(live)
        more = True
        while more:
            page = growing.read(log, len(live), page_bytes, ended=ENDED)
            live += page.entries
            more = page.more
        whole = LogReader(limit, mask).read(log, 0, PAGE, ended=ENDED)
    assert [text.replace(MASK, "") for text in texts(whole)] == expected
    assert tuple(live) == whole.entries


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, len(SECRET) - 1)), st.lists(st.integers(0, 200)), st.sampled_from(["\n", "\r\n", "\n\n"])
)
def test_a_value_in_any_lines_and_any_reads(breaks: list[int], reads: list[int], line_end: str) -> None:
    pieces = [SECRET[a:b] for a, b in pairwise(sorted({0, len(SECRET), *breaks}))]
    data = f"before\nx{line_end.join(pieces)}y\nafter\n".encode()
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in reads)})
    with tempfile.TemporaryFile() as file:
        os.write(file.fileno(), VERSION)
        for a, b in pairwise(borders):
            os.write(file.fileno(), record(OUT, 1, data[a:b]))
        shown = [text for text in texts(read(file.fileno())) if text]
    middle = [MASK] * (len(pieces) - 2)
    wanted = [f"x{MASK}y"] if len(pieces) == 1 else [f"x{MASK}", *middle, f"{MASK}y"]
    assert shown == ["before", *wanted, "after"]


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_a_line_that_may_begin_a_value_waits_for_the_next_of_its_stream(log: int) -> None:
    reader = a_reader()
    os.write(log, record(OUT, 1, b"first\nit is corr\n") + record(ERR, 2, b"meanwhile\n"))
    page = read(log, reader, ended=False)
    assert (texts(page), page.next_sequence, page.more) == (["first"], 1, False)
    assert read(log, reader, 1, ended=False).entries == ()
    os.write(log, record(OUT, 3, b"ect-horse\n"))
    assert texts(read(log, reader, 1, ended=False)) == [f"it is {MASK}", "meanwhile", MASK]
    assert texts(read(log, after=2)) == ["meanwhile", MASK]


def test_it_is_shown_as_it_is_when_another_line_or_the_end_comes(log: int) -> None:
    reader = a_reader()
    os.write(log, record(OUT, 1, b"it is corr\n"))
    assert texts(read(log, reader, ended=False)) == []
    assert texts(read(log, reader)) == ["it is corr"]
    os.write(log, record(OUT, 2, b"upt\n"))
    assert texts(read(log, reader, ended=False)) == ["it is corr", "upt"]


def test_a_clock_that_was_set_back_has_it_wait_no_longer(log: int) -> None:
    up = [50_000]
    reader = LogReader(1000, Mask([SECRET]), lambda: 0, lambda: up[0])
    os.write(log, record(OUT, 1_800_000_000_000, b"it is corr\n"))
    assert texts(read(log, reader, ended=False)) == []
    up[0] += 1990
    assert texts(read(log, reader, ended=False)) == []
    up[0] += 20
    assert texts(read(log, reader, ended=False)) == [f"it is {MASK}"]


def test_it_does_not_wait_for_ever(log: int) -> None:
    """What follows is the same for everybody, so the line is too."""
    reader = a_reader()
    os.write(log, record(OUT, 1, b"open\nit is corr\n"))
    for _ in range(60):
        assert texts(read(log, reader, 1, ended=False)) == []
        os.write(log, record(ERR, 2, b"x" * 99 + b"\n" + b"y" * 900 + b"\n"))
    os.write(log, record(ERR, 2, b"z" * 5000 + b"\n"))
    assert texts(read(log, reader, 1, ended=False))[0] == f"it is {MASK}"
    os.write(log, record(OUT, 3, b"ect-horse and more\n"))
    for ended in (False, True):
        shown = texts(read(log, ended=ended))
        assert shown[:2] == ["open", f"it is {MASK}"]
        assert shown[-1] == f"{MASK} and more"


@pytest.mark.parametrize(("end", "shown"), [("corr", f"it is {MASK}"), ("cor", "it is cor")])
def test_and_not_for_long(log: int, end: str, shown: str) -> None:
    """A line that stands there while its script is silent comes after a moment; too little of a value is none."""
    os.write(log, record(OUT, 10_000, f"it is {end}\n".encode()))
    for now in (9_000, 10_000, 12_000):
        assert texts(read(log, a_reader(now), ended=False)) == []
    assert texts(read(log, a_reader(12_001), ended=False)) == [shown]
    os.write(log, record(OUT, 12_002, SECRET.removeprefix(end).encode() + b"\n"))
    for ended in (False, True):
        assert texts(read(log, a_reader(12_002), ended=ended)) == [shown, MASK]


def test_the_end_of_a_run_in_time_shows_the_line_as_it_is(log: int) -> None:
    os.write(log, record(OUT, 10_000, b"it is corr\n") + record(DEBUG_ENTRY, 11_000, b"exited"))
    assert texts(read(log)) == ["it is corr", "exited"]
    os.write(log, record(DEBUG_ENTRY, 11_001, b"late"))
    assert texts(read(log)) == [f"it is {MASK}", "exited", "late"]


PAUSES = st.sampled_from([0, 1, 900, 1000, 1001, 2500, 60_000])


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from([OUT, ERR]), st.text("abcde\n", max_size=9), PAUSES, PAUSES), max_size=12))
def test_whoever_looks_whenever_sees_the_same(records: list[tuple[bytes, str, int, int]]) -> None:
    """Between any two records somebody looks, right after the first or a while later."""
    now, mask = 100_000, Mask(["abcde", "edcba"])
    with tempfile.TemporaryFile() as file:
        log = file.fileno()
        os.write(log, VERSION)
        growing = LogReader(50, mask, lambda: now)
        live: list[ProcessOutput] = []
        for kind, text, pause, look in records:
            now += pause
            os.write(log, record(kind, now, text.encode()))
            now += look
            live += growing.read(log, len(live), PAGE, ended=None).entries
        os.write(log, record(DEBUG_ENTRY, now, b"exited"))
        live += growing.read(log, len(live), PAGE, ended=ENDED).entries
        whole = LogReader(50, mask).read(log, 0, PAGE, ended=ENDED)
    assert tuple(live) == whole.entries
    for source in (ProcessOutputSource.STD_OUT, ProcessOutputSource.STD_ERR):
        said = "".join(e.text for e in live if e.source is source)
        assert not re.search("abcde|edcba", said)


def test_a_value_across_the_cut_of_a_line_that_is_too_long(log: int) -> None:
    data = b"x" * 95 + SECRET.encode() + b"y" * 50 + b"\n"
    os.write(log, record(OUT, 1, data))
    assert texts(read(log, a_reader(limit=100))) == [
        "x" * 95 + MASK + cut_mark(100),
        MASK + "y" * 50,
    ]


def test_both_streams_and_the_agent_s_own_entries(log: int) -> None:
    for kind in (OUT, ERR):
        os.write(log, record(kind, 1, f"a {SECRET}\n".encode()))
    os.write(log, record(DEBUG_ENTRY, 2, f"b {SECRET} {SECRET}".encode()) + record(OUT_ENTRY, 3, b"corr"))
    page = read(log, ended=False)
    assert texts(page) == [f"a {MASK}", f"a {MASK}", f"b {MASK} {MASK}", "corr"]
    assert page.entries[1].source is ProcessOutputSource.STD_ERR


def test_a_rotten_log_hides_what_might_have_gone_on(log: int) -> None:
    os.write(log, record(OUT, 1, b"it is corr\n") + b"rubbish that is no record\n" * 3)
    assert texts(read(log))[0] == f"it is {MASK}"


# --- failing closed --------------------------------------------------------------------------------------------------


class Broken(Mask):
    def open_end(self, text: str) -> int:
        raise RuntimeError(f"cannot look at {text}")

    def is_in(self, text: str) -> bool:
        raise RuntimeError(f"cannot look into {text}")


def test_a_failure_hides_the_line_and_never_shows_it(log: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    os.write(log, record(OUT, 1, b"one\ntwo\n") + record(OUT_ENTRY, 2, b"three"))
    page = read(log, LogReader(1000, Broken([SECRET])))
    assert texts(page) == [WITHHELD] * 3
    assert page.next_sequence == 3
    assert caplog.messages[0] == "2 line(s) of a script were withheld: masking failed (RuntimeError)"


def test_without_a_known_mask_nothing_of_the_script_is_shown(log: int) -> None:
    os.write(
        log,
        record(OUT_ENTRY, 1, b"ours") + record(OUT, 2, b"one\ntw") + record(OUT, 2, b"o\n") + record(ERR, 3, b"x\n"),
    )
    assert texts(read(log, LogReader(1000, None))) == ["ours", WITHHELD, WITHHELD, WITHHELD]


def test_an_empty_mask_covers_nothing() -> None:
    assert not LineMasking(Mask())
    assert LineMasking(None)
    assert LineMasking(Mask()).tail("abc", ["def"]) == ""
    assert LineMasking(Mask([SECRET])).cover(["corr"], "", lambda: NoMoreLines.NOT_YET) == []
