"""Files that a command writes: whole, private where they must be, and never in place of something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tentacle.cli.frame.output_file import write_public, write_secret
from tentacle.disk import write_atomic
from tentacle.errors import TentacleError
from tests.other_user import as_nobody, of_nobody, only_root, secret_of_root


def test_modes(tmp_path: Path) -> None:
    write_public(tmp_path / "public", b"x")
    write_secret(tmp_path / "secret", b"x")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("public", "secret")] == [0o644, 0o600]


def test_a_secret_replaces_a_file_that_everybody_could_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"longer than before")
    write_secret(path, b"x")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"x", 0o600)


def test_a_secret_that_a_killed_writer_left_goes_with_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".f.0123abcd.tmp"
    left.write_bytes(b"key")
    os.utime(left, (0, 0))
    write_secret(tmp_path / "f", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_public(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"x"


def test_what_another_user_has_laid_out_is_not_used(tmp_path: Path) -> None:
    """In /tmp anybody may make the file first, or a link that leads to one of ours."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(precious)
    os.chown(tmp_path / "link", 54321, 54321, follow_symlinks=False)
    for write in (write_public, write_secret):
        with pytest.raises(TentacleError, match="is a symbolic link of another user"):
            write(tmp_path / "link", b"x")
    assert precious.read_bytes() == b"precious"
    theirs = tmp_path / "theirs"
    theirs.touch()
    os.chown(theirs, 54321, 54321)
    with pytest.raises(TentacleError, match="belongs to another user"):
        write_secret(theirs, b"x")
    assert theirs.read_bytes() == b""
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(TentacleError, match="cannot be written"):
        write_public(tmp_path / "round", b"x")


@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "missing"])
def test_what_is_no_place_for_a_file_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/null")
        case "missing":
            path = path / "y"
    with pytest.raises(TentacleError):
        write_secret(path, b"x")
    assert len(list(tmp_path.iterdir())) == (0 if kind == "missing" else 1)


@only_root
def test_a_secret_is_not_given_to_the_owner_of_what_it_replaces(open_way: Path) -> None:
    of_nobody(open_way / "home")
    as_nobody(open_way / "home", "touch", "x.pfx")
    write_atomic(open_way / "home" / "x.pfx", b"secret", mode=0o600, own=True)
    assert (open_way / "home" / "x.pfx").stat().st_uid == 0
    secret = secret_of_root(open_way / "of-root" / "f")
    as_nobody(open_way / "home", "ln", "-s", str(secret.parent), "linked")
    with pytest.raises(TentacleError, match="is not followed"):
        write_secret(open_way / "home" / "linked" / "f", b"new")
    assert secret.read_bytes() == b"secret"
