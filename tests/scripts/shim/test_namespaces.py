"""The mounts of a script that is kept apart, entered by real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tentacle.scripts.shim.namespaces import _make_directories
from tests.patience import PATIENCE
from tests.scripts.sandboxes import own_uids

ENTER = """
import os, sys
from pathlib import Path
from tentacle.scripts.shim.namespaces import enter
from tentacle.scripts.shim.run_order import ScriptView, ViewPlace
base = Path(sys.argv[1])
work, own = base / "work", base / "work" / "own"
shared = base / "shared"
outside, inside = (ViewPlace(str(own / "tmp"), str(shared)),), (ViewPlace(str(own), str(own)),)
enter(ScriptView(str(work), outside, inside))
print(sorted(path.name for path in work.iterdir()), sorted(path.name for path in own.iterdir()))
print(sorted(path.name for path in (base / "shared").iterdir()))
(own / "made").write_text("made")
(base / "shared" / "temporary").write_text("temporary")
try:
    (work / "other").mkdir()
except OSError as error:
    print(error.strerror)
print(sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1])
"""
AS_USER = """
import os, stat, sys
from pathlib import Path
from tentacle.scripts.shim.namespaces import enter
from tentacle.scripts.shim.run_order import ScriptView, ViewPlace
base, owner, user = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
work, own, common = base / "work", base / "work" / "own", base / "common"
outside, inside = (ViewPlace(str(common), str(common), shared=True),), (ViewPlace(str(own), str(own)),)
enter(ScriptView(str(work), outside, inside, owner=owner), user)
os.setgroups([]), os.setresgid(user, user, user), os.setresuid(user, user, user)
def tried(what):
    try:
        return what()
    except OSError as error:
        return error.strerror
print([(path.name, path.lstat().st_uid == user, path.lstat().st_uid) for path in sorted(common.iterdir())])
(common / "made").touch()
os.chmod(common / "of the owner", 0o4755)
print((common / "made").stat().st_uid == user, tried((common / "of root").unlink), (base / "open" / "made").touch())
print(tried(lambda: os.kill(os.getppid(), 0)), Path(f"/proc/{os.getppid()}").exists(), os.getpid() != 1)
Path("/dev/shm/of this script").touch()
print(os.listdir("/dev/shm"), Path("/proc/sysvipc/shm").read_text().count(chr(10)))
Path("/dev/null").write_text("")
"""


def program(text: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", text, *arguments], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    return done.stdout.splitlines()


def test_hidden_directories_are_made_again_and_those_that_exist_stay(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    (tmp_path / "a" / "file").touch()
    for _ in range(2):
        _make_directories(f"{tmp_path}/a/b/c/")
    assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o711
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "file").exists()


def test_inside_only_the_own_workspace_is_there_and_outside_nothing_is_different(tmp_path: Path) -> None:
    for path in ("work/own/tmp", "work/foreign", "shared"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "work" / "own" / "file").touch()
    (tmp_path / "shared" / "of others").touch()
    before = Path("/proc/self/mounts").read_text()
    assert program(ENTER, str(tmp_path)) == [
        "['own'] ['file', 'tmp']",
        "[]",
        "Read-only file system",
        "[0, 1, 2]",
    ]
    assert Path("/proc/self/mounts").read_text() == before
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["foreign", "own"]
    assert (tmp_path / "work" / "own" / "made").read_text() == "made"
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["of others"]
    assert (tmp_path / "work" / "own" / "tmp" / "temporary").read_text() == "temporary"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_of_its_own_owns_what_is_shared_and_writes_as_its_owner(open_way: Path) -> None:
    owner, user = own_uids().owner, own_uids().last
    for path in ("work/own", "common", "open"):
        (open_way / path).mkdir(parents=True)
    (open_way / "open").chmod(0o777)
    os.chown(open_way / "common", -1, owner)
    (open_way / "common").chmod(0o1775)
    for name, uid in (("of root", 0), ("of the owner", owner), ("of somebody", owner + 7)):
        (open_way / "common" / name).touch()
        os.chown(open_way / "common" / name, uid, uid)
    objects = subprocess.run(["ipcmk", "-M", "100"], capture_output=True, text=True, check=True).stdout.split()
    try:
        told = program(AS_USER, str(open_way), str(owner), str(user))
    finally:
        subprocess.run(["ipcrm", "-m", objects[-1]], check=True)
    assert told == [
        f"[('of root', False, 0), ('of somebody', False, {owner + 7}), ('of the owner', True, {user})]",
        "True Operation not permitted None",
        "Operation not permitted False True",
        "['of this script'] 1",
    ]
    for made in ((open_way / directory / "made").stat() for directory in ("common", "open")):
        assert (made.st_uid, made.st_gid) == (owner, owner)
    assert not Path("/dev/shm/of this script").exists()


@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="no FUSE here")
def test_a_user_of_its_own_makes_no_file_systems_of_its_own(tmp_path: Path) -> None:
    """A file system can show a program with the setuid bit, of which a union of file systems makes a real copy."""
    (tmp_path / "work" / "own").mkdir(parents=True)
    (tmp_path / "common").mkdir()
    text = AS_USER.partition("def tried")[0] + 'print(os.stat("/dev/fuse").st_rdev == os.stat("/dev/null").st_rdev)'
    assert program(text, str(tmp_path), str(own_uids().owner), str(own_uids().last)) == ["True"]
