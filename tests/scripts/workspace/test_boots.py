"""The starts of the machine, and what is older than the last one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tentacle.scripts.workspace.boots import FILE, MOST, BootLedger

FIRST, SECOND, THIRD, UNKNOWN = (name * 16 for name in (b"1", b"2", b"3", b"x"))


def ledger(directory: Path, boot: bytes, up: int) -> BootLedger:
    return BootLedger(directory, lambda: up, boot)


def test_what_was_before_is_as_old_as_the_machine_has_run_since(tmp_path: Path) -> None:
    ledger(tmp_path, FIRST, 50).note()
    ledger(tmp_path, FIRST, 100).note()
    ledger(tmp_path, SECOND, 1000).note()
    third = ledger(tmp_path, THIRD, 10)
    for _ in range(2):
        assert third.age(FIRST, 70) == 30 + 1000 + 10
        assert third.age(FIRST, 120) == 1000 + 10, "nobody noted that the machine had run for so long"
        assert third.age(SECOND, 0) == 1000 + 10
        assert third.age(THIRD, 4) == 6
        assert third.age(THIRD, 11) is None
        assert third.age(UNKNOWN, 4) is None
        third.note()


def test_only_the_last_starts_are_kept(tmp_path: Path) -> None:
    for number in range(MOST + 5):
        ledger(tmp_path, bytes([number]) * 16, 100).note()
    last = ledger(tmp_path, bytes([MOST + 4]) * 16, 100)
    assert last.age(bytes([4]) * 16, 0) is None
    assert last.age(bytes([5]) * 16, 0) == 100 * MOST


@pytest.mark.parametrize("what", ["a pipe", "a link", "rubbish", "cut", "a directory"])
def test_what_else_lies_there_is_no_start(tmp_path: Path, what: str) -> None:
    path = tmp_path / FILE
    ledger(tmp_path, FIRST, 50).note()
    if what == "cut":
        os.truncate(path, 20)
    elif what == "rubbish":
        path.write_bytes(os.urandom(2000))
    else:
        path.unlink()
        {"a pipe": os.mkfifo, "a link": lambda at: at.symlink_to("/nowhere"), "a directory": os.mkdir}[what](path)
    assert ledger(tmp_path, SECOND, 5).age(FIRST, 0) is None
    ledger(tmp_path, SECOND, 5).note()
    assert ledger(tmp_path, THIRD, 5).age(SECOND, 0) == (None if what == "a directory" else 10)
