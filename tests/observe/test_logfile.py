"""The log file: its layout, its rolling, and that it harms nobody."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.home_layout import LOG_FILE
from tentacle.observe.logfile import FileLogHandler, LayoutFormatter, RollingFile
from tests.other_user import NOBODY, as_nobody, of_nobody, only_root, second_name, secret_of_root

KEPT = 7
SIZES: dict[str, Any] = {"max_bytes": 2**20, "kept": KEPT}
LAYOUT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{4}[+-]\d\d:\d\d {2}[ \d]{5,} {2}[ \d]{5,} [ A-Z]{5}  "


def record(message: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("tentacle.x", level, __file__, 1, message, (), None)


@pytest.fixture
def handler() -> Iterator[FileLogHandler]:
    made = FileLogHandler()
    yield made
    made.close()


def test_the_layout_is_the_originals() -> None:
    """And says how far the time is from UTC, which it is not in the original."""
    told = record("hello")
    told.created = datetime(2026, 1, 2, 3, 4, 5, 678912, tzinfo=UTC).timestamp()
    told.process = 42
    line = LayoutFormatter().format(told)
    when = datetime.fromisoformat(line[:30])
    assert when == datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
    assert line[30:] == f"     42  {threading.get_native_id():>5}  INFO  hello\n"


@pytest.mark.parametrize(("zone", "stamp"), [("UTC0", "03:04:05.0000+00:00"), ("IST-5:30", "08:34:05.0000+05:30")])
def test_times_tell_their_distance_from_utc(zone: str, stamp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = record("x")
    told.created = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", zone)
            time.tzset()
            assert LayoutFormatter().format(told).startswith(f"2026-01-02 {stamp}  ")
    finally:
        time.tzset()


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (5, "TRACE"),
        (logging.DEBUG, "DEBUG"),
        (logging.INFO, " INFO"),
        (logging.WARNING, " WARN"),
        (logging.ERROR, "ERROR"),
        (logging.CRITICAL, "FATAL"),
    ],
)
def test_levels_have_the_originals_names(level: int, name: str) -> None:
    assert f" {name}  x\n" in LayoutFormatter().format(record("x", level))


@given(st.text())
def test_one_record_is_one_line_whatever_it_says(text: str) -> None:
    line = LayoutFormatter().format(record(text.replace("%", "")))
    assert re.fullmatch(LAYOUT + "[^\x00-\x1f\x7f\x85\u2028\u2029]*\n", line)


def test_a_traceback_is_indented_so_that_it_forges_nothing() -> None:
    try:
        raise ValueError("x\n2026-01-01 00:00:00.0000  forged")
    except ValueError:
        told = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    first, *others = LayoutFormatter().format(told).splitlines()
    assert first.endswith("ERROR  failed")
    assert others
    assert all(line.startswith("    ") for line in others)


def test_what_came_before_the_file_was_known_is_in_it(handler: FileLogHandler, tmp_path: Path) -> None:
    handler.handle(record("first"))
    handler.attach(tmp_path / "deep" / "Logs", **SIZES)
    handler.handle(record("second"))
    path = tmp_path / "deep" / "Logs" / LOG_FILE
    assert handler.path == path
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["first", "second"]
    assert path.stat().st_mode & 0o777 == 0o640


def test_the_beginning_that_is_kept_has_a_limit(handler: FileLogHandler, tmp_path: Path) -> None:
    for number in range(5000):
        handler.handle(record(str(number)))
    handler.attach(tmp_path, **SIZES)
    lines = (tmp_path / LOG_FILE).read_text().splitlines()
    assert len(lines) == 1000
    assert lines[-1].endswith("4999")


def old(path: Path, days: int) -> None:
    stamp = (datetime.now() - timedelta(days=days)).timestamp()
    os.utime(path, (stamp, stamp))


def test_each_day_begins_a_new_file_and_seven_old_ones_stay(tmp_path: Path) -> None:
    file = RollingFile(tmp_path / LOG_FILE, **SIZES)
    for day in range(KEPT + 3):
        file.append(f"day {day}\n")
        old(file.path, 1)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [*(f"OctopusTentacle.{number}.txt" for number in range(KEPT)), LOG_FILE]
    assert file.path.read_text() == f"day {KEPT + 2}\n"
    assert (tmp_path / "OctopusTentacle.0.txt").read_text() == f"day {KEPT + 1}\n"
    assert (tmp_path / f"OctopusTentacle.{KEPT - 1}.txt").read_text() == "day 2\n"


def test_fewer_files_than_before_stay_when_fewer_are_wanted(tmp_path: Path) -> None:
    for kept in (5, 5, 5, 5, 5, 2):
        RollingFile(tmp_path / LOG_FILE, max_bytes=1, kept=kept).append("x\n")
    assert {path.name for path in tmp_path.iterdir()} == {LOG_FILE, "OctopusTentacle.0.txt", "OctopusTentacle.1.txt"}


def test_the_same_day_appends_and_a_huge_day_rolls(tmp_path: Path) -> None:
    file = RollingFile(tmp_path / LOG_FILE, max_bytes=10, kept=KEPT)
    file.append("12345\n")
    file.append("67890\n")
    assert file.path.read_text() == "12345\n67890\n"
    file.append("new\n")
    assert file.path.read_text() == "new\n"


def test_several_writers_lose_no_line_when_all_roll(tmp_path: Path) -> None:
    path = tmp_path / LOG_FILE
    path.write_text("yesterday\n")
    old(path, 1)

    def write() -> None:
        for _ in range(200):
            RollingFile(path, **SIZES).append("x\n")

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    texts = [part.read_text() for part in tmp_path.iterdir()]
    assert "".join(texts).count("x\n") == 800
    assert sum("yesterday\n" in text for text in texts) == 1


def test_what_cannot_be_written_costs_the_line_and_nothing_else(handler: FileLogHandler, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    handler.attach(tmp_path / "file" / "Logs", **SIZES)
    handler.handle(record("lost"))


def test_links_and_pipes_in_place_of_the_file_are_not_followed(handler: FileLogHandler, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    (tmp_path / LOG_FILE).symlink_to(victim)
    handler.attach(tmp_path, **SIZES)
    handler.handle(record("lost"))
    assert victim.read_text() == ""
    (tmp_path / LOG_FILE).unlink()
    os.mkfifo(tmp_path / LOG_FILE)
    handler.handle(record("lost"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_leaves_the_log_to_the_owner_of_the_home(handler: FileLogHandler, tmp_path: Path) -> None:
    home = tmp_path / "service"
    home.mkdir()
    os.chown(home, 12345, 54321)
    handler.attach(home / "Logs", **SIZES)
    handler.handle(record("x"))
    for path in (home / "Logs", home / "Logs" / LOG_FILE):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def said_once(caplog: pytest.LogCaptureFixture) -> str:
    (text,) = (entry.getMessage() for entry in caplog.records)
    return text


@only_root
def test_root_neither_writes_to_nor_gives_away_a_file_with_a_second_name(
    handler: FileLogHandler, open_way: Path, caplog: pytest.LogCaptureFixture
) -> None:
    victim = secret_of_root(open_way / "outside" / "victim")
    logs = of_nobody(open_way / "Logs")
    second_name(logs, LOG_FILE, victim)
    handler.attach(logs, **SIZES)
    for text in ("lost", "lost too"):
        handler.handle(record(text))
    assert (victim.read_bytes(), victim.stat().st_uid) == (b"secret", 0)
    assert said_once(caplog).startswith(f"Nothing is written to the log file '{logs / LOG_FILE}'. The link '")
    assert "several names (hard links)" in said_once(caplog)
    (logs / LOG_FILE).unlink()
    handler.handle(record("written"))
    assert (logs / LOG_FILE).read_text().endswith("written\n")
    assert (logs / LOG_FILE).stat().st_uid == NOBODY


@only_root
def test_root_does_not_give_away_a_file_that_was_moved_there(handler: FileLogHandler, open_way: Path) -> None:
    logs = of_nobody(open_way / "Logs")
    secret_of_root(logs / "exported.pfx")
    as_nobody(logs, "mv", "exported.pfx", LOG_FILE)
    handler.attach(logs, **SIZES)
    handler.handle(record("x"))
    assert (logs / LOG_FILE).stat().st_uid == 0


@only_root
def test_root_logs_into_no_directory_that_its_link_s_maker_may_not_write(
    handler: FileLogHandler, open_way: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = open_way / "outside"
    outside.mkdir()
    home = of_nobody(open_way / "home")
    as_nobody(home, "ln", "-s", str(outside), "Logs")
    handler.attach(home / "Logs", **SIZES)
    for text in ("lost", "lost too"):
        handler.handle(record(text))
    assert list(outside.iterdir()) == []
    assert "is not followed" in said_once(caplog)
    (home / "Logs").unlink()
    of_nobody(home / "Logs")
    handler.handle(record("written"))
    assert (home / "Logs" / LOG_FILE).read_text().endswith("written\n")
    # The directory is exchanged while it is open.
    (home / "Logs").rename(home / "old")
    as_nobody(home, "ln", "-s", str(outside), "Logs")
    handler.handle(record("lost"))
    assert list(outside.iterdir()) == []
