"""Nobody waits for the removal of a tree, and nothing of it is forgotten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tentacle.scripts.workspace.trash import TrashRemover
from tentacle.scripts.workspace.workspaces import Workspaces
from tests.scripts.lab import until


def tree(path: Path, files: int = 3, depth: int = 2) -> Path:
    path.mkdir()
    for number in range(files):
        (path / f"file-{number}").write_text("content")
    if depth:
        tree(path / "directory", files, depth - 1)
    return path


async def test_what_is_added_is_gone_once_it_is_drained(tmp_path: Path) -> None:
    trash = TrashRemover(Workspaces(tmp_path / "Work"))
    for number in range(20):
        trash.add(tree(tmp_path / f"tree-{number}"))
    await trash.drained()
    assert list(tmp_path.iterdir()) == []
    await trash.drained()
    trash.add(tree(tmp_path / "later", files=200, depth=5))
    await trash.drained()
    assert list(tmp_path.iterdir()) == []


async def test_whoever_adds_does_not_wait(tmp_path: Path) -> None:
    trash = TrashRemover(Workspaces(tmp_path / "Work"))
    trash.add(tree(tmp_path / "tree"))
    assert (tmp_path / "tree" / "directory" / "directory" / "file-0").exists()
    await trash.drained()
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("what", ["file", "link", "fifo", "missing", "without rights"])
async def test_whatever_it_is_goes_and_nothing_behind_a_link(tmp_path: Path, what: str) -> None:
    path, other = tmp_path / "trash", tree(tmp_path / "other")
    if what == "file":
        path.write_text("content")
    elif what == "link":
        path.symlink_to(other)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "without rights":
        tree(path)
        (path / "directory").chmod(0)
    trash = TrashRemover(Workspaces(tmp_path / "Work"))
    trash.add(path)
    trash.add(tree(tmp_path / "behind it"))
    await trash.drained()
    assert not os.path.lexists(path)
    assert [one.name for one in tmp_path.iterdir()] == ["other"]
    assert (other / "file-0").exists()


async def test_closing_waits_for_no_large_tree_and_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    trash = TrashRemover(Workspaces(tmp_path / "Work"))
    first = tree(tmp_path / "first", files=300, depth=20)
    trash.add(first)
    await until(lambda: not (first / "file-0").exists())
    trash.add(tree(tmp_path / "second"))
    await trash.aclose()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
    later = TrashRemover(Workspaces(tmp_path / "Work"))
    for name in ("first", "second"):
        later.add(tmp_path / name)
    await later.drained()
    assert list(tmp_path.iterdir()) == []
    await TrashRemover(Workspaces(tmp_path / "Work")).aclose()
