"""Which links are followed, and what happens to a path that changes under the one who walks it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tentacle.path_walk import LinkRefused, Trust, end_of, give, open_alone, parent_of, status_of
from tests.filter import refused
from tests.other_user import NOBODY, as_nobody, of_nobody, only_root, second_name, secret_of_root
from tests.patience import PATIENCE

ALL = Trust()
WARY = Trust(wary=True)


def read(path: Path | str, trust: Trust = ALL) -> bytes:
    with end_of(path, trust) as place:
        found = place.status()
        assert found is not None
        place.require_readable(found)
        with os.fdopen(place.open(os.O_RDONLY), "rb") as file:
            return file.read()


def make(inside: int, name: str) -> int:
    os.mkdir(name, dir_fd=inside)
    return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=inside)


@pytest.fixture
def work(open_way: Path) -> Path:
    """`Work` with a workspace T, and a file and a directory outside."""
    (open_way / "Work" / "T" / "inner").mkdir(parents=True)
    (open_way / "Work" / "other").mkdir()
    (open_way / "outside").mkdir()
    for file in (open_way / "outside" / "f", open_way / "Work" / "other" / "f", open_way / "Work" / "T" / "f"):
        file.write_text(file.parent.name)
    return open_way / "Work"


# --- as the kernel does -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "Work/T/f",
        "Work/./T//f",
        "Work/T/inner/../f",
        "loop",
        "out/f",
        "out/../Work/T/f",
        "missing/f",
        "file/x",
        "magic/f",
    ],
)
def test_without_rules_a_path_leads_where_the_kernel_leads(
    path: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = work.parent
    (top / "loop").symlink_to("loop")
    (top / "out").symlink_to(top / "outside")
    (top / "file").touch()
    (top / "magic").symlink_to(f"/proc/self/root{top}/outside")
    monkeypatch.chdir(top)

    def outcome(way: Callable[[Path], bytes], path: str) -> bytes | int | None:
        try:
            return way(Path(path))
        except OSError as error:
            return error.errno

    for given in (path, str(top / path), f"../{top.name}/{path}"):
        assert outcome(read, given) == outcome(Path.read_bytes, given)


def test_missing_directories_are_made_but_not_where_a_link_leads(work: Path) -> None:
    (work / "dangling").symlink_to("nowhere")
    with parent_of(work / "a" / "b" / "f", ALL, make) as place:
        assert place.path == work / "a" / "b" / "f"
    assert (work / "a" / "b").is_dir()
    with pytest.raises(FileNotFoundError), parent_of(work / "dangling" / "a" / "f", ALL, make):
        pass
    assert not (work / "nowhere").exists()


def test_a_link_of_proc_is_followed_by_the_kernel_where_its_text_leads_elsewhere(work: Path) -> None:
    descriptor = os.open(work / "T" / "f", os.O_RDONLY)
    try:
        (work / "T" / "f").unlink()
        assert read(f"/proc/self/fd/{descriptor}") == b"T"
    finally:
        os.close(descriptor)


# --- the fence --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "content"),
    [
        ("f", b"T"),
        ("inner/../f", b"T"),
        ("../T/f", b"T"),
        ("{top}/Work/T/f", b"T"),
        ("../other/f", None),
        ("../../outside/f", None),
        ("{top}/outside/f", None),
        ("/proc/self/root{top}/outside/f", None),
        ("/proc/self/fd/{descriptor}", None),
        ("..", None),
        ("/", None),
    ],
)
def test_a_link_in_a_workspace_leads_out_only_to_come_back(target: str, content: bytes | None, work: Path) -> None:
    descriptor = os.open(work.parent / "outside" / "f", os.O_RDONLY)
    try:
        (work / "T" / "link").symlink_to(target.format(top=work.parent, descriptor=descriptor))
        if content is None:
            with pytest.raises(LinkRefused, match="is not followed"):
                read(work / "T" / "link", Trust(fenced=work))
            with (
                pytest.raises((LinkRefused, NotADirectoryError)),
                parent_of(work / "T" / "link" / "x" / "y", Trust(fenced=work), make),
            ):
                pass
        else:
            assert read(work / "T" / "link", Trust(fenced=work)) == content
    finally:
        os.close(descriptor)
    assert {path.name for path in (work.parent / "outside").iterdir()} == {"f"}


def test_a_workspace_is_fenced_by_whichever_way_it_is_reached(work: Path) -> None:
    (work / "T" / "link").symlink_to("../../outside/f")
    (work.parent / "short").symlink_to("Work/T")
    (work.parent / "moved").symlink_to("Work")
    for path in (work.parent / "short" / "link", work.parent / "moved" / "T" / "link"):
        with pytest.raises(LinkRefused):
            read(path, Trust(fenced=work.parent / "moved"))
    assert read(work.parent / "outside" / "f", Trust(fenced=work)) == b"outside"


def test_a_directory_that_is_moved_out_on_the_way_leads_nowhere_else(work: Path) -> None:
    (work.parent / "outside" / "x").mkdir()

    def make_and_move(inside: int, name: str) -> int:
        made = make(inside, name)
        (work / "T" / "inner").rename(work.parent / "outside" / "inner")
        return made

    with (
        pytest.raises(LinkRefused, match="the directory 'inner' on its way was moved meanwhile"),
        parent_of(f"{work}/T/inner/new/../../x/f", Trust(fenced=work), make_and_move),
    ):
        pass


def test_a_name_that_becomes_a_link_behind_the_walk_is_not_opened(work: Path) -> None:
    with end_of(work / "T" / "f", ALL) as place:
        (work / "T" / "f").unlink()
        (work / "T" / "f").symlink_to("../../outside/f")
        with pytest.raises(LinkRefused, match="no link belongs there"):
            place.open(os.O_RDONLY)


# --- links of others --------------------------------------------------------------------------------------------


@only_root
@pytest.mark.parametrize(
    ("mode", "secret", "public"),
    [(0o755, True, True), (0o1777, True, True), (0o777, False, True), (0o775, False, True)],
)
def test_a_link_of_root_counts_as_root_s_only_where_nobody_else_can_make_one(
    mode: int, secret: bool, public: bool, open_way: Path
) -> None:
    target = secret_of_root(open_way / "of-root" / "f")
    folder = open_way / "folder"
    folder.mkdir()
    folder.chmod(mode)
    (folder / "link").symlink_to(target)
    for rights, followed in ((0o600, secret), (0o644, public)):
        target.chmod(rights)
        if followed:
            assert read(folder / "link", WARY) == b"secret"
        else:
            with pytest.raises(LinkRefused):
                read(folder / "link", WARY)
    target.chmod(0o600)


@only_root
def test_a_group_counts_unless_the_directory_gives_it_to_every_link(open_way: Path) -> None:
    target = secret_of_root(open_way / "of-root" / "f")
    target.chmod(0o640)
    os.chown(target, 0, NOBODY)
    folder = of_nobody(open_way / "folder")
    as_nobody(folder, "ln", "-s", str(target), "link")
    assert read(folder / "link", WARY) == b"secret"
    folder.chmod(0o2770)
    with pytest.raises(LinkRefused):
        read(folder / "link", WARY)


@only_root
def test_a_closed_directory_on_the_way_of_a_link_stays_closed(open_way: Path) -> None:
    target = secret_of_root(open_way / "of-root" / "f")
    target.chmod(0o644)
    target.parent.chmod(0o700)
    as_nobody(of_nobody(open_way / "folder"), "ln", "-s", str(target), "link")
    with pytest.raises(LinkRefused, match="must not use"):
        read(open_way / "folder" / "link", WARY)


@only_root
def test_what_others_link_to_is_written_only_where_they_may_write(open_way: Path) -> None:
    shared, own = open_way / "shared", of_nobody(open_way / "own")
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "of-root").touch()
    as_nobody(own, "ln", "-s", str(shared), "link")
    with parent_of(own / "link" / "new", WARY) as place:
        place.require_writable()
    with parent_of(own / "link" / "of-root", WARY) as place, pytest.raises(LinkRefused):
        place.require_writable()
    shared.chmod(0o755)
    with parent_of(own / "link" / "new", WARY) as place, pytest.raises(LinkRefused):
        place.require_writable()


@only_root
def test_a_file_with_other_names_is_not_opened_to_be_written_over(open_way: Path) -> None:
    victim, own = secret_of_root(open_way / "of-root" / "f"), of_nobody(open_way / "own")
    second_name(own, "f", victim)
    with pytest.raises(LinkRefused, match="several names"):
        open_alone(own / "f", os.O_RDWR)
    second_name(victim.parent, "g", victim)
    os.close(open_alone(victim, os.O_RDWR))
    os.close(open_alone(own / "new", os.O_RDWR, like=own))
    assert (own / "new").stat().st_uid == NOBODY
    as_nobody(own, "ln", "-s", str(victim), "link")
    with pytest.raises(LinkRefused, match="no link belongs there"):
        open_alone(own / "link", os.O_RDWR)
    assert status_of(own / "link") is not None
    own.chmod(0o1777)
    os.chown(own, 0, 0)
    with pytest.raises(LinkRefused, match="several names"):
        open_alone(own / "f", os.O_RDWR)
    assert (victim.read_bytes(), victim.stat().st_mode & 0o777) == (b"secret", 0o600)


@only_root
def test_what_is_given_is_what_was_there(open_way: Path) -> None:
    (open_way / "f").touch()
    (open_way / "link").symlink_to("f")
    (open_way / "folder").mkdir()
    inside = os.open(open_way, os.O_RDONLY)
    try:
        assert all(give(name, inside, NOBODY, NOBODY) for name in ("link", "folder"))
        assert ((open_way / "f").stat().st_uid, (open_way / "link").lstat().st_uid) == (0, NOBODY)
        second_name(open_way, "g", open_way / "f")
        assert not give("g", inside, NOBODY, NOBODY)
        (open_way / "g").unlink()
        assert give("f", inside, NOBODY, NOBODY)
    finally:
        os.close(inside)


WALK = """
import os, sys
from tentacle.path_walk import LinkRefused, Trust, end_of
for name in ("back", "out"):
    try:
        with end_of(sys.argv[1] + "/T/" + name, Trust(fenced=__import__("pathlib").Path(sys.argv[1]))) as place:
            print(os.pread(place.open(os.O_RDONLY), 9, 0).decode())
    except LinkRefused:
        print("refused")
"""


def test_no_call_is_needed_that_an_old_kernel_or_a_filter_lacks(work: Path) -> None:
    (work / "T" / "back").symlink_to("inner/../f")
    (work / "T" / "out").symlink_to("../../outside/f")
    done = subprocess.run(
        [*refused("ENOSYS", "openat2", "fstatfs", "statx"), sys.executable, "-c", WALK, str(work)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout.split() == ["T", "refused"], done.stderr


def test_a_path_that_is_too_long_is_said_to_be(work: Path) -> None:
    with pytest.raises(OSError, match="File name too long") as told, end_of(f"{work}/{'x/' * 3000}", ALL):
        pass
    assert told.value.errno == errno.ENAMETOOLONG
