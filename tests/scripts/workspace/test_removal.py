"""What scripts leave is removed or measured whatever they have done to it, and nothing that is not theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentacle.scripts.retention import usage_of
from tentacle.scripts.workspace.removal import entries_below, remove_tree
from tests.patience import PATIENCE

DEPTH = 10_000


def nest(directory: Path, depth: int) -> None:
    """Directories in one another, so deep that no path reaches the last one, with a file in each hundredth."""
    at = os.open(directory, os.O_RDONLY)
    for number in range(depth):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
        if number % 100 == 0:
            os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=at))
    os.close(at)


def test_an_ordinary_tree_is_removed(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    for name in ("a/b/c", "a/d", "e"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").touch()
    (tree / "a" / "link").symlink_to(outside)
    (tree / "a" / "nowhere").symlink_to(tmp_path / "missing")
    (tree / "again").hardlink_to(outside / "kept")
    os.mkfifo(tree / "a" / "pipe")
    assert remove_tree(tree)
    assert not tree.exists()
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert remove_tree(tree), "what is not there is gone"


def test_what_is_no_directory_goes_too_and_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "file").touch()
    for path in (tmp_path / "link", tmp_path / "file"):
        assert remove_tree(path)
        assert not path.is_symlink()
    assert (outside / "kept").exists()


def test_names_that_are_no_text_and_depths_that_no_path_reaches(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    odd = Path(os.fsdecode(os.fsencode(tree) + b"/\xff\xfe"))
    odd.mkdir(parents=True)
    (odd / "x").write_text("x")
    nest(tree, DEPTH)
    assert usage_of(tree).inodes == 1 + 2 + DEPTH + DEPTH // 100
    assert remove_tree(tree)
    assert not tree.exists()


CLOSED = """
import os, sys
from pathlib import Path
from tentacle.scripts.workspace.removal import remove_tree
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
tree = Path(sys.argv[1]) / "tree"
(tree / "a" / "b" / "c").mkdir(parents=True)
(tree / "a" / "b" / "file").touch()
for path in (tree / "a" / "b" / "c", tree / "a" / "b", tree / "a", tree):
    path.chmod(int(sys.argv[2], 8))
print(remove_tree(tree), tree.exists())
"""


@pytest.mark.parametrize("mode", ["000", "500", "300", "077"])
def test_rights_that_a_script_has_taken_away_are_no_hindrance(open_way: Path, mode: str) -> None:
    """As a user to whom they matter, which they do not to root."""
    code = CLOSED
    if os.geteuid() == 0:
        os.chown(open_way, 65534, 65534)
    else:
        code = "\n".join(line for line in CLOSED.splitlines() if not line.startswith("os.set"))
    done = subprocess.run(
        [sys.executable, "-c", code, str(open_way), mode], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.stdout == "True False\n", done.stderr


def command(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A tree in which something else is mounted, from the same device and from another one; and what that is."""
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    (elsewhere / "deeper").mkdir(parents=True)
    (elsewhere / "deeper" / "precious").touch()
    points = [tree / "a" / "bound", tree / "bound", tree / "memory"]
    for point in points:
        point.mkdir(parents=True)
    command("mount", "--bind", elsewhere, points[0])
    command("mount", "--bind", elsewhere, points[1])
    command("mount", "-t", "tmpfs", "-o", "size=64k", "none", points[2])
    (points[2] / "precious").touch()
    yield tree, elsewhere
    for line in Path("/proc/self/mountinfo").read_text().splitlines()[::-1]:
        if (mount := line.split()[4]).startswith(str(tmp_path)):
            command("umount", mount)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_what_is_mounted_in_it_is_not_touched(mounted: tuple[Path, Path]) -> None:
    tree, elsewhere = mounted
    (tree / "a" / "file").touch()
    assert not remove_tree(tree, pause=lambda _: None)
    assert (elsewhere / "deeper" / "precious").exists()
    left = [path.name for path in tree.rglob("*") if path.is_file()]
    assert sorted(left) == ["precious"] * 3
    assert not remove_tree(tree / "memory", pause=lambda _: None), "nor when it is all that there is"
    assert [path.name for path in (tree / "memory").iterdir()] == ["precious"]
    # Two mounts of the one device cannot be told apart, and what has several names counts once.
    assert usage_of(tree).inodes == len({s.st_ino for s in entries_below(tree)})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_what_came_with_the_image_of_a_container_is_removed_too(tmp_path: Path) -> None:
    """On an overlay, directories of the lower layer cannot be moved."""
    for name in ("memory", "merged"):
        (tmp_path / name).mkdir()
    command("mount", "-t", "tmpfs", "none", tmp_path / "memory")
    try:
        layers = [tmp_path / "memory" / name for name in ("lower", "upper", "work")]
        for layer in layers:
            layer.mkdir()
        (layers[0] / "tree" / "a" / "b").mkdir(parents=True)
        (layers[0] / "tree" / "a" / "file").touch()
        options = ",".join(f"{name}dir={path}" for name, path in zip(("lower", "upper", "work"), layers, strict=True))
        command("mount", "-t", "overlay", "-o", options, "overlay", tmp_path / "merged")
        tree = tmp_path / "merged" / "tree"
        (tree / "new" / "deep").mkdir(parents=True)
        with pytest.raises(OSError, match="cross-device"):
            (tree / "a").rename(tmp_path / "merged" / "elsewhere")
        assert remove_tree(tree)
        assert list((tmp_path / "merged").iterdir()) == []
    finally:
        for name in ("merged", "memory"):
            subprocess.run(["umount", tmp_path / name], check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file immutable")
def test_what_cannot_be_removed_hinders_nothing_else(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("a/b", "c/d"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").touch()
    stubborn = tree / "a" / "b" / "file"
    # With another name elsewhere it may be closed for a reason.
    (tmp_path / "elsewhere").hardlink_to(stubborn)
    command("chattr", "+i", stubborn)
    try:
        assert not remove_tree(tree, pause=lambda _: None)
        assert [path.name for path in tree.rglob("*") if path.is_file()] == ["file"]
    finally:
        for left in tree.rglob("file"):
            command("chattr", "-i", left)
    assert remove_tree(tree)
