"""The stage of a run is read from its file alone; its log ends with whole records."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentacle.scripts.shim import run_record
from tentacle.scripts.shim.log_format import VERSION
from tentacle.scripts.workspace.run_directory import RunDirectory
from tentacle.scripts.workspace.run_files import RunFiles, Stage, run_name
from tentacle.scripts.workspace.run_header import RunHeader


@pytest.fixture
def files(tmp_path: Path) -> Iterator[RunFiles]:
    runs = RunDirectory(tmp_path)
    runs.ensure()
    files = runs.create(RunHeader("T-1", "Task", "M", 1, None, ()), ("first",))
    yield files
    files.close()


def test_a_run_goes_through_its_stages(files: RunFiles) -> None:
    assert files.examine().stage is Stage.PREPARED
    process = os.fork()
    if process == 0:
        # A lock of this process would be none for itself.
        os._exit(0 if run_record.claim(str(files.run_path)) is not None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert files.examine().stage is Stage.LOST, "claimed by a process that has gone"
    result = files.end(3, "why")
    assert (files.examine().stage, files.examine().result) == (Stage.ENDED, result)


def test_a_completed_run_keeps_its_run_file_only(files: RunFiles) -> None:
    files.mark_completed()
    assert files.run_path.exists()
    assert not files.log_path.exists()
    assert files.log_size() == 0
    files.remove()
    assert not files.run_path.exists()
    files.remove()


def test_the_log_can_be_read_after_the_files_are_closed(files: RunFiles) -> None:
    files.close()
    log = files.open_log()
    assert os.read(log, 4096).startswith(VERSION)
    os.close(log)
    files.log_path.unlink()
    os.mkfifo(files.log_path)
    log = files.open_log()
    assert os.read(log, 10) == b"", "a pipe is no log, and is not waited for"
    os.close(log)


def test_a_torn_log_is_cut_and_one_without_a_record_begins_anew(files: RunFiles) -> None:
    whole = files.log_size()
    with files.log_path.open("ab") as file:
        file.write(b"half a record")
    files.cut_log(whole)
    assert files.log_size() == whole
    files.cut_log(0)
    assert files.log_path.read_bytes() == VERSION


def test_the_name_does_not_depend_on_the_case_and_is_short() -> None:
    assert run_name("Ticket") == run_name("tICKET") != run_name("ticket2")
    assert len(run_name("ß" * 200)) == 64
