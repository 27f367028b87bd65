"""The note of an ephemeral worker: private, of one run at a time, and harmless whatever stands in it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from tentacle.cli.registration.ephemeral_note import NotedWorker, noting, running_worker
from tentacle.errors import TentacleError
from tentacle.home_layout import EPHEMERAL_NOTE
from tests.other_user import of_nobody, only_root, second_name, secret_of_root

LEFT = NotedWorker("http://octopus/", None, "w", "A" * 40, "Workers-1")


def test_what_was_not_cleared_is_found_by_the_next(tmp_path: Path) -> None:
    with noting(tmp_path) as note:
        assert note.earlier is None
        note.write(NotedWorker(**{**LEFT.__dict__, "name": "w" * 1000}))
        note.write(LEFT)
    assert (tmp_path / EPHEMERAL_NOTE).stat().st_mode & 0o777 == 0o600
    with noting(tmp_path) as note:
        assert note.earlier == LEFT
        note.clear()
    with noting(tmp_path) as note:
        assert note.earlier is None


def test_two_runs_at_once_do_not_clear_up_each_other(tmp_path: Path) -> None:
    with noting(tmp_path) as note:
        note.write(LEFT)
        with pytest.raises(TentacleError, match="another agent is already running"), noting(tmp_path):
            pass


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "null", "[]", '"x"', "{}", '{"server": 1}', "[" * 100_000, "\0" * 10),
        json.dumps({**LEFT.__dict__, "name": None}),
        json.dumps({**LEFT.__dict__, "machine_id": 5}),
        json.dumps({**LEFT.__dict__, "more": 5}),
    ],
)
def test_a_note_that_is_none_is_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / EPHEMERAL_NOTE).write_text(content)
    with noting(tmp_path) as note:
        assert note.earlier is None


def test_looking_for_a_run_leaves_nothing_behind(tmp_path: Path) -> None:
    assert running_worker(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "no home"])
def test_where_no_note_can_be_kept_there_is_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / EPHEMERAL_NOTE
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        tmp_path.rmdir()
    with noting(tmp_path) as note:
        note.write(LEFT)
        note.clear()
        assert note.earlier is None
    assert not (tmp_path / "elsewhere").exists()


@only_root
def test_a_note_that_is_another_file_too_is_none(open_way: Path) -> None:
    home, victim = of_nobody(open_way / "home"), secret_of_root(open_way / "of-root" / "f")
    second_name(home, EPHEMERAL_NOTE, victim)
    with noting(home) as note:
        note.write(NotedWorker("https://o", None, "n", "T"))
    assert victim.read_bytes() == b"secret"


@only_root
def test_a_note_that_a_script_has_made_and_holds_is_none(tmp_path: Path) -> None:
    """Scripts with users of their own may make files in the home; no other run holds that one."""
    path = tmp_path / EPHEMERAL_NOTE
    with path.open("w") as file:
        os.chown(path, 20000, 20000)
        fcntl.flock(file, fcntl.LOCK_EX)
        with noting(tmp_path) as note:
            assert note.earlier is None
