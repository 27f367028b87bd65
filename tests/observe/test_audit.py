"""The audit record: one JSON object a line whatever is in it, for its owner alone, and whole on a full disk."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.observe.audit import LONGEST_TEXT, AuditFailed, AuditRecord
from tentacle.observe.redaction import Redactor

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_record_is_one_line_with_its_time(tmp_path: Path) -> None:
    path = tmp_path / "Logs" / "Audit.jsonl"
    audit = AuditRecord(path, now=lambda: NOW)
    audit.append({"Event": "asked", "Ticket": "T\n{}", "Files": [{"Name": "a\r\u2028b", "Length": 1}], "Code": -1})
    audit.append({"Event": "answered"})
    audit.close()
    assert lines(path) == [
        {
            "Time": "2026-01-02T03:04:05.678Z",
            "Event": "asked",
            "Ticket": "T\n{}",
            "Files": [{"Name": "a\r\u2028b", "Length": 1}],
            "Code": -1,
        },
        {"Time": "2026-01-02T03:04:05.678Z", "Event": "answered"},
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().isascii()


@given(st.dictionaries(st.text(), st.text()))
def test_any_text_is_one_line(record: dict[str, str]) -> None:
    directory = Path("/tmp") / f"watch-audit-{os.getpid()}"
    path = directory / "Audit.jsonl"
    try:
        audit = AuditRecord(path, now=lambda: NOW)
        audit.append(record)
        audit.close()
        data = path.read_bytes()
        assert data.count(b"\n") == 1
        assert json.loads(data) == {"Time": "2026-01-02T03:04:05.678Z"} | record
    finally:
        path.unlink(missing_ok=True)
        directory.rmdir()


def test_secrets_are_masked_and_endless_texts_cut(tmp_path: Path) -> None:
    path = tmp_path / "Audit.jsonl"
    redactor = Redactor(["s3cr3t"])
    AuditRecord(path, redactor.redact).append(
        {"Path": "/x/s3cr3t", "Files": [{"Name": "s3cr3t"}], "Error": "x" * 10000}
    )
    (found,) = lines(path)
    assert (found["Path"], found["Files"]) == ("/x/********", [{"Name": "********"}])
    assert len(found["Error"]) == LONGEST_TEXT + 3


def test_it_is_rotated_and_old_files_go(tmp_path: Path) -> None:
    path = tmp_path / "Audit.jsonl"
    audit = AuditRecord(path, max_bytes=200, kept=2)
    for number in range(40):
        audit.append({"Number": number})
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["Audit.0.jsonl", "Audit.1.jsonl", "Audit.jsonl"]
    kept = [one["Number"] for name in reversed(names[:2]) for one in lines(tmp_path / name)]
    kept += [one["Number"] for one in lines(path)]
    assert kept == list(range(kept[0], 40))
    assert all(stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600 for name in names)


def test_it_goes_on_under_its_name_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "Logs" / "Audit.jsonl"
    audit = AuditRecord(path)
    audit.append({"Number": 0})
    path.rename(path.with_suffix(".old"))
    audit.append({"Number": 1})
    path.unlink()
    audit.append({"Number": 2})
    path.parent.rename(tmp_path / "Elsewhere")
    audit.append({"Number": 3})
    audit.close()
    assert [one["Number"] for one in lines(tmp_path / "Elsewhere" / "Audit.old")] == [0]
    assert [one["Number"] for one in lines(tmp_path / "Elsewhere" / "Audit.jsonl")] == [2]
    assert [one["Number"] for one in lines(path)] == [3]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=True)
    yield place
    # Lazily: a test that fails may still hold a file in it.
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_on_a_full_disk_no_line_is_torn_and_what_is_missing_is_said(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_disk / "Audit.jsonl"
    audit = AuditRecord(path)
    number = 0
    with caplog.at_level(logging.WARNING), pytest.raises(AuditFailed, match="No space left"):
        while True:
            audit.append({"Number": number, "Text": "x" * 3000})
            number += 1
    with pytest.raises(AuditFailed):
        audit.append({"Text": "x" * 4096})
    assert audit.failures == 2
    assert [one["Number"] for one in lines(path)] == list(range(number))
    with path.open("r+") as file:
        file.truncate(0)
    audit.append({"Event": "after"})
    (found,) = lines(path)
    assert (found["Event"], found["Lost"]) == ("after", 2)
    audit.append({"Event": "later"})
    assert "Lost" not in lines(path)[-1]
    audit.close()
    assert len(caplog.messages) == 2


def test_a_place_where_nothing_can_be_written_is_a_failure_and_no_end(tmp_path: Path) -> None:
    path = tmp_path / "Audit.jsonl"
    path.mkdir()
    with pytest.raises(AuditFailed):
        AuditRecord(path).append({})
