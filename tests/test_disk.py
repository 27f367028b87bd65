"""Small files: bounded when read, whole or untouched when written.  Free space: asked for with a margin."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tentacle import disk
from tentacle.disk import DiskError, NotEnoughSpace, user_name
from tests.filter import refused
from tests.other_user import NOBODY, as_nobody, of_nobody, only_root, second_name, secret_of_root
from tests.patience import PATIENCE
from tests.small_files import small_files

WRITER = """
import os, signal, sys
from pathlib import Path
from tentacle import disk
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
stage = sys.argv[2]
if stage == "flush": os.fsync = die
if stage == "rename": os.rename = die
if stage == "renamed": disk.flush_directory = die
disk.write_atomic(Path(sys.argv[1]), b"new", mode=0o600)
"""


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    disk.write_atomic(path, b"one", mode=0o644)
    disk.write_atomic(path, b"two", mode=0o600)
    assert disk.read_bytes(path) == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(("stage", "content"), [("flush", b"old"), ("rename", b"old"), ("renamed", b"new")])
def test_a_writer_that_is_killed_leaves_the_old_text_or_the_new(tmp_path: Path, stage: str, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", WRITER, str(path), stage], timeout=PATIENCE, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == content
    disk.remove_unfinished(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_leaves_the_old_text(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    refused = pytest.raises(DiskError, match=r"Unable to write file '.*' as user '.*'\. File too large")
    with small_files(1000), refused:
        disk.write_atomic(path, b"n" * 2000, mode=0o600)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="No such file or directory"):
        disk.write_atomic(tmp_path / "no" / "x", b"", mode=0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_keeps_the_owner_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    os.chown(path, 12345, 12346)
    disk.write_atomic(path, b"new", mode=0o600)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


def test_only_unfinished_work_on_the_same_file_is_removed(tmp_path: Path) -> None:
    names = [".x.12345678.tmp", ".x.y.12345678.tmp", ".xy.12345678.tmp", ".x.tmp", "x.12345678.tmp"]
    for name in names:
        (tmp_path / name).touch()
    disk.remove_unfinished(tmp_path / "x")
    assert {entry.name for entry in tmp_path.iterdir()} == set(names[1:])


def test_work_that_may_go_on_is_left_alone(tmp_path: Path) -> None:
    # The second one was written before the clock was set back.
    for name, age in ((".x.12345678.tmp", 3600), (".x.00000000.tmp", -86400), (".x.abcdef12.tmp", 1)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    disk.remove_unfinished(tmp_path / "x", older_than=disk.ABANDONED_SECONDS)
    assert [entry.name for entry in tmp_path.iterdir()] == [".x.abcdef12.tmp"]


def test_who_is_interrupted_takes_the_unfinished_file_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        disk.write_atomic(tmp_path / "x", b"secret", mode=0o600)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(DiskError, match="is not a regular file"):
            disk.read_bytes(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10 * 1024**3)
    with pytest.raises(DiskError, match="is larger than 4194304 bytes"):
        disk.read_bytes(tmp_path / "huge")


def test_a_missing_file_and_a_file_as_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "no", tmp_path / "file" / "x"):
        with pytest.raises(FileNotFoundError):
            disk.read_bytes(path)
        assert not disk.exists(path)


def test_directories_are_made_with_their_mode(tmp_path: Path) -> None:
    disk.make_directories(tmp_path / "a" / "b", mode=0o700)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="Unable to create"):
        disk.make_directories(tmp_path / "file" / "x")


def test_directories_are_made_once_by_several_at_once_and_through_links_that_were_there(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    disk.make_directories(tmp_path / "link" / "a" / "b", mode=0o700)
    disk.make_directories(tmp_path / "link" / "a" / "b", mode=0o755)
    assert stat.S_IMODE((tmp_path / "real" / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(DiskError, match="Unable to create"):
        disk.make_directories(tmp_path / "dangling" / "x")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_all_directories_that_root_makes_for_another_user_are_his(tmp_path: Path) -> None:
    config = tmp_path / "x"
    config.touch()
    os.chown(config, 12345, 12346)
    disk.make_directories(tmp_path / "a" / "b" / "c", like=config)
    owners = {(tmp_path / name).stat().st_uid for name in ("a", "a/b", "a/b/c")}
    assert owners == {12345}
    assert tmp_path.stat().st_uid == 0


def test_the_companion_of_a_file_is_beside_it_and_not_beside_a_link(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "L").symlink_to(tmp_path / "x")
    assert disk.beside(tmp_path / "x", ".key") == tmp_path / "x.key"
    assert disk.beside(tmp_path / "links" / "L", ".key") == tmp_path / "x.key"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (-1, "0 B"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KB"),
        (4301, "4.2 KB"),
        (1_540_000_000, "1.434 GB"),
        (576_716_800 + 1_048_576, "551 MB"),
        (2**40, "1 TB"),
        (2**50, "1 PB"),
        (2**63, "8 EB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert disk.file_size(size) == text


def test_a_tenth_and_a_mebibyte_more() -> None:
    assert disk.with_margin(500 * 1024 * 1024) == 550 * 1024 * 1024 + 1024 * 1024


def test_the_message_has_all_the_numbers(tmp_path: Path) -> None:
    disk.require_free(tmp_path, 0)
    with pytest.raises(NotEnoughSpace) as caught:
        disk.require_free(tmp_path, 2**60)
    text = str(caught.value)
    assert text.startswith("The drive '/")
    assert f"containing the directory '{tmp_path}' on machine '" in text
    assert "does not have enough free disk space available for this operation to proceed. The disk only has " in text
    assert text.endswith(" available; please free up at least 1.1 EB.")


def test_a_user_without_a_name_is_shown_by_number() -> None:
    assert (user_name(0), user_name(54321)) == ("root", "54321")


# --- hosts and file systems that lack something --------------------------------------------------------------------


def refusing(calls: str, code: str, directory: Path) -> str:
    """What these words of Python print where the system calls are refused."""
    begin = "import os, sys; from pathlib import Path; from tentacle import disk\n"
    command = (*refused("EOPNOTSUPP", *calls.split(",")), sys.executable, "-c", begin + code, str(directory))
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.stdout + done.stderr


def test_a_file_system_without_fsync_and_modes_takes_a_private_file(tmp_path: Path) -> None:
    code = "disk.write_atomic(Path(sys.argv[1], 'f'), b'x', mode=0o600); print('written')"
    assert refusing("fsync,fchmod", code, tmp_path) == "written\n"
    assert (tmp_path / "f").read_bytes() == b"x"


def test_a_secret_is_not_written_where_everybody_can_read_it(tmp_path: Path) -> None:
    code = "d = os.open(sys.argv[1] + '/f', os.O_RDWR | os.O_CREAT, 0o644)\ntry: disk.set_mode(d, 0o600)\n"
    code += "except OSError as error: print(error.strerror)"
    assert refusing("fchmod", code, tmp_path).startswith("Its file system shows every file to all users")


def test_without_flock_another_kind_of_lock_keeps_two_apart(tmp_path: Path) -> None:
    hold = "d = os.open(sys.argv[1] + '/f', os.O_RDWR | os.O_CREAT, 0o600); disk.lock(d)\n"
    other = "import subprocess; subprocess.run([sys.executable, '-c', sys.argv[2], sys.argv[1]])"
    code = f"{hold}sys.argv.append({('import os, sys; from tentacle import disk; ' + hold)!r}); {other}; print('held')"
    said = refusing("flock", code, tmp_path)
    assert "BlockingIOError" in said
    assert "held" in said


def test_room_that_cannot_be_asked_for_refuses_nothing(tmp_path: Path) -> None:
    assert refusing("statfs,fstatfs", "print(disk.free_bytes(Path(sys.argv[1])))", tmp_path) == f"{sys.maxsize}\n"


def test_a_file_that_is_a_mount_of_its_own_is_named_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("old")
    (tmp_path / "inner").write_text("mounted")
    code = "try: disk.write_atomic(Path(sys.argv[1], 'config'), b'new', mode=0o600)\n"
    code += "except disk.DiskError as error: print(error, error.hint, sep='\\n')"
    script = f'mount --bind {tmp_path}/inner {file} && exec "$0" "$@"'
    user = () if os.geteuid() == 0 else ("--map-root-user",)
    code = "import os, sys; from pathlib import Path; from tentacle import disk\n" + code
    done = subprocess.run(
        ("unshare", "--mount", *user, "/bin/sh", "-c", script, sys.executable, "-c", code, str(tmp_path)),
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    said = done.stdout.splitlines()
    assert said[0].endswith("It is a mount of its own, which cannot be replaced."), done.stderr
    assert said[1] == f"Mount its directory, '{tmp_path}', in place of the file."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config", "inner"]
    assert (tmp_path / "inner").read_text() == "mounted"


def test_the_first_closed_directory_on_the_way(tmp_path: Path) -> None:
    assert disk.closed_directory(tmp_path / "a" / "b") is None


@only_root
def test_root_does_not_follow_the_links_of_another_user(open_way: Path) -> None:
    outside = secret_of_root(open_way / "outside" / "x")
    home = of_nobody(open_way / "home")
    as_nobody(home, "ln", "-s", str(outside), "x")
    as_nobody(home, "ln", "-s", str(outside.parent), "folder")
    (outside.parent / ".x.12345678.tmp").touch()
    for path in (home / "x", home / "folder" / "x"):
        with pytest.raises(DiskError, match=r"Unable to read file '.*'\. The link '.*' is not followed"):
            disk.read_bytes(path)
        with pytest.raises(DiskError, match="is not followed"):
            disk.beside(path, ".key")
    attempts: tuple[Callable[[], object], ...] = (
        lambda: disk.write_atomic(home / "folder" / "x", b"new", mode=0o600),
        lambda: disk.make_directories(home / "folder" / "made"),
        lambda: disk.remove_file(home / "folder" / "x"),
    )
    for write in attempts:
        with pytest.raises(DiskError, match="is not followed"):
            write()
    disk.remove_unfinished(home / "folder" / "x")
    assert {path.name for path in outside.parent.iterdir()} == {"x", ".x.12345678.tmp"}
    # A link at the very end is replaced, and what it leads to stays.
    disk.write_atomic(home / "x", b"new", mode=0o600)
    assert (outside.read_bytes(), (home / "x").read_bytes()) == (b"secret", b"new")


@only_root
def test_root_follows_another_user_s_links_to_what_that_user_may_use(open_way: Path) -> None:
    home, there = of_nobody(open_way / "home"), of_nobody(open_way / "there")
    as_nobody(home, "ln", "-s", str(there), "folder")
    as_nobody(there, "touch", "x")
    disk.write_atomic(home / "folder" / "x", b"new", mode=0o600)
    assert disk.read_bytes(there / "x") == disk.read_bytes(home / "folder" / "x") == b"new"
    assert (there / "x").stat().st_uid == NOBODY
    as_nobody(home, "ln", "-s", str(there / "x"), "x")
    assert disk.behind_links(home / "x") == there / "x"
    public = secret_of_root(open_way / "of-root" / "public")
    public.chmod(0o644)
    as_nobody(home, "ln", "-s", str(public), "public")
    assert disk.read_bytes(home / "public") == b"secret"
    with pytest.raises(DiskError, match="is not followed"):
        disk.behind_links(home / "public")


@only_root
def test_root_does_not_read_a_secret_by_a_second_name(open_way: Path) -> None:
    secret = secret_of_root(open_way / "outside" / "x")
    home = of_nobody(open_way / "home")
    second_name(home, "x", secret)
    with pytest.raises(DiskError, match="several names"):
        disk.read_bytes(home / "x")
    assert disk.read_bytes(secret) == b"secret"
