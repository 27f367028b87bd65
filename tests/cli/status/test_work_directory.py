"""How much room workspaces take, as far as that is found out in time."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from tentacle.cli.status.work_directory import LONGEST_COUNT, WorkDirectory, read_work_directory, total_size
from tentacle.scripts.workspace.finished import FILE
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.run_files import run_name
from tentacle.scripts.workspace.workspaces import Workspaces


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("a", "b")]
    for folder in made:
        (folder / "deeper").mkdir(parents=True)
        (folder / "deeper" / "file").write_bytes(b"x" * 5000)
        (folder / "link").symlink_to("/usr")
    return made


def test_a_workspace_that_is_removed_meanwhile_takes_no_room(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_bytes(bytes(5000))
    there = total_size([tmp_path / "there"], lambda: 0.0)
    assert there[0] > 0
    assert total_size([tmp_path / "gone", tmp_path / "there"], lambda: 0.0) == there


def test_all_files_are_added_up_and_links_lead_nowhere(folders: list[Path]) -> None:
    size, complete = total_size(folders, lambda: 0.0)
    assert complete
    assert 10_000 <= size < 100_000


def test_when_the_time_is_over_the_size_is_a_lower_bound(folders: list[Path]) -> None:
    clock = count(0.0, LONGEST_COUNT)
    size, complete = total_size(folders, lambda: next(clock))
    assert not complete
    assert size < total_size(folders, lambda: 0.0)[0]


def test_what_is_nested_too_deeply_makes_it_a_lower_bound(folders: list[Path]) -> None:
    make = "import os\nfor _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')"
    subprocess.run([sys.executable, "-c", make], cwd=folders[1], check=True)
    try:
        size, complete = total_size(folders, lambda: 0.0)
        assert not complete
        assert size > 0
    finally:
        remove_tree(folders[1])


def test_without_a_work_directory_there_is_nothing(tmp_path: Path) -> None:
    assert read_work_directory(tmp_path / "Work") == WorkDirectory()
    (tmp_path / "file").write_text("")
    assert read_work_directory(tmp_path / "file").problem == f"{tmp_path}/file: Not a directory"


def test_the_files_of_runs_count_and_the_list_of_finished_tickets_does_not(tmp_path: Path) -> None:
    runs = Workspaces(tmp_path / "Work").runs
    runs.path.mkdir(parents=True)
    (runs.path / FILE).write_bytes(b"x" * 5000)
    assert read_work_directory(tmp_path / "Work") == WorkDirectory()
    for path in runs.paths(run_name("ServerTasks-1")):
        path.write_bytes(b"x" * 5000)
    assert read_work_directory(tmp_path / "Work").size >= 15_000
