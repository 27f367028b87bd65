"""Users on loan: one per workspace, and none twice while anything of it is left.  Needs root."""

from __future__ import annotations

import contextlib
import grp
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.scripts.errors import SandboxUnavailableError, ScriptError
from tentacle.scripts.sandbox.uids import UidRange, Uids
from tests.scripts.lab import Lab, lines
from tests.scripts.named_mutex import interpreter
from tests.scripts.sandboxes import ADD_KEY, KEYCTL, SANDBOXES, living, options, own_uids


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "Work").mkdir()
    return tmp_path / "Work"


def workspace(work: Path, name: str) -> Path:
    path = work / name
    (path / "sub").mkdir(parents=True)
    for file in (path / "Bootstrap.sh", path / "sub" / "file"):
        file.write_text("x")
    return path


def test_a_workspace_is_handed_over_but_for_what_belongs_elsewhere(work: Path, tmp_path: Path) -> None:
    path = workspace(work, "T-1")
    outside = tmp_path / "outside"
    outside.write_text("x")
    (path / "link").symlink_to(outside)
    os.link(outside, path / "second name")
    uid = Uids(work, own_uids()).lease(path)
    owners = {str(each.relative_to(path)): each.lstat().st_uid for each in path.rglob("*")}
    assert path.stat().st_uid == uid
    assert owners == {
        "Bootstrap.sh": uid,
        "sub": uid,
        "sub/file": uid,
        "link": uid,
        "second name": 0,
    }
    assert outside.stat().st_uid == 0


def test_a_workspace_keeps_its_user_over_a_restart(work: Path) -> None:
    path = workspace(work, "T-1")
    uid = Uids(work, own_uids()).lease(path)
    later = Uids(work, own_uids())
    assert later.lease(path) == uid
    assert later.lease(workspace(work, "T-2")) != uid


def test_no_user_twice_while_a_workspace_or_a_process_of_it_is_left(work: Path) -> None:
    uids = own_uids(3)
    leases = Uids(work, uids)
    one, two = workspace(work, "T-1"), workspace(work, "T-2")
    assert {leases.lease(one), leases.lease(two)} == {uids.first + 1, uids.last}
    three = workspace(work, "T-3")
    with pytest.raises(ScriptError, match=f"All users for scripts, {uids}, are taken"):
        leases.lease(three)
    left = one.stat().st_uid
    with subprocess.Popen(["/bin/sleep", "600"], user=left, group=left) as process:
        subprocess.run(["/bin/rm", "-r", str(one)], check=True)
        with pytest.raises(ScriptError, match="are taken"):
            leases.lease(three)
        process.kill()
    assert leases.lease(three) == left


@pytest.mark.parametrize("directory", ["/tmp", "/var/tmp", "/dev/shm"])
def test_no_user_twice_while_a_file_for_everybody_is_its_own(work: Path, directory: str) -> None:
    uids = own_uids(2)
    leases = Uids(work, uids)
    left = Path(directory) / f"tentacle-test-{os.getpid()}"
    left.touch()
    try:
        os.chown(left, uids.last, -1)
        with pytest.raises(ScriptError, match="are taken"):
            leases.lease(workspace(work, "T-1"))
    finally:
        left.unlink()
    assert leases.lease(work / "T-1") == uids.last


@pytest.mark.parametrize("kind", ["-M", "-Q", "-S"])
def test_no_user_twice_while_a_system_v_object_is_its_own(work: Path, kind: str) -> None:
    uids = own_uids(2)
    leases = Uids(work, uids)
    size = [] if kind == "-Q" else ["1"]
    made = subprocess.run(["ipcmk", kind, *size], user=uids.last, capture_output=True, text=True, check=True)
    try:
        with pytest.raises(ScriptError, match="are taken"):
            leases.lease(workspace(work, "T-1"))
    finally:
        subprocess.run(["ipcrm", kind.lower(), made.stdout.split()[-1]], check=True)
    assert leases.lease(work / "T-1") == uids.last


def test_a_home_that_is_left_keeps_its_user(work: Path) -> None:
    uids = own_uids(2)
    home = work / ".runs" / "name.tmp" / "home"
    home.mkdir(parents=True)
    os.chown(home, uids.last, uids.last)
    with pytest.raises(ScriptError, match="are taken"):
        Uids(work, uids).lease(workspace(work, "T-1"))


def test_a_range_with_a_user_of_the_system_is_refused(work: Path) -> None:
    with pytest.raises(SandboxUnavailableError, match="65534, which is 'nobody'"):
        Uids(work, UidRange(65000, 65534)).check()
    with pytest.raises(SandboxUnavailableError, match="is too small"):
        Uids(work, own_uids(1)).check()


def test_a_range_with_a_group_of_the_system_is_refused(work: Path) -> None:
    group = next(group for group in grp.getgrall() if group.gr_gid > 0)
    with pytest.raises(SandboxUnavailableError, match=f"holds {group.gr_gid}, which is '"):
        Uids(work, UidRange(group.gr_gid, group.gr_gid + 1)).check()


def test_every_user_has_its_turn_before_one_comes_again(work: Path) -> None:
    uids = own_uids(3)
    leases = Uids(work, uids)
    given = []
    for number in range(5):
        path = workspace(work, f"T-{number}")
        given.append(leases.lease(path) - uids.first)
        shutil.rmtree(path)
    assert given == [1, 2, 1, 2, 1]


def test_a_range_may_be_as_wide_as_it_likes(work: Path) -> None:
    uids = UidRange(own_uids().first, 2**31 - 2)
    # Whoever counts them does not come to the end within the limit of a test.
    assert Uids(work, uids).lease(workspace(work, "T-1")) in uids


HOLDER = """
import sys
from pathlib import Path
from tentacle.scripts.sandbox.uids import UidRange, Uids
first, last, work, claims = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
Uids(work, UidRange(first, last), claims)._claim()
print("held", flush=True)
sys.stdin.read()
"""


def test_no_two_agents_lend_the_same_users(work: Path, tmp_path: Path) -> None:
    claims = tmp_path / "claims"
    first = own_uids().first
    command = [sys.executable, "-c", HOLDER, str(first), str(first + 9), str(work), str(claims)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        for begin, end in ((first, first + 9), (first + 9, first + 20), (first - 5, first)):
            with pytest.raises(SandboxUnavailableError, match="Another agent on this machine runs scripts under"):
                Uids(work, UidRange(begin, end), claims)._claim()
        Uids(work, UidRange(first + 10, first + 20), claims)._claim()
        holder.kill()
    # Whatever has become of the other agent: what it held is free.
    Uids(work, UidRange(first, first + 9), claims)._claim()


def test_a_range_that_cannot_be_claimed_is_refused(work: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailableError, match=r"cannot be claimed in .* No such file"):
        Uids(work, own_uids(), tmp_path / "nowhere" / "claims")._claim()


def test_a_range_is_shown_and_holds_its_ends() -> None:
    uids = UidRange(5, 7)
    assert str(uids) == "5-7"
    assert [uid in uids for uid in range(4, 9)] == [False, True, True, True, False]


NEXT = r"""
id -u
for place in /tmp /var/tmp /dev/shm /run/lock ~; do
    find "$place" -mindepth 1 -path '*/.dotnet' -prune -o -user "$(id -u)" -print 2>/dev/null
done
perl -e 'my ($kind, $name) = ("user", "tentacle-test"); print "a key\n" if syscall(KEYCTL, 10, -4, $kind, $name, 0) > 0'
for kind in shm msg sem; do tail -n +2 "/proc/sysvipc/$kind"; done
"$PLACE/bash" -p -c 'id -u'
touch "$PLACE/mine" && chmod 600 "$PLACE/left" && echo shared
"""
LEAVE = r"""
id -u
cp /bin/bash "$PLACE/bash"; chmod 4777 "$PLACE/bash" 2>/dev/null || chmod 777 "$PLACE/bash"
echo x >"$PLACE/left"; chmod 666 "$PLACE/left"
for place in /tmp /var/tmp /dev/shm /run/lock ~; do cp /bin/bash "$place/left"; chmod 777 "$place/left"; done
ipcmk -M 64 >/dev/null; ipcmk -Q >/dev/null; ipcmk -S 1 >/dev/null
perl -e 'my ($kind, $name, $key) = ("user", "tentacle-test", "secret"); syscall(ADD_KEY, $kind, $name, $key, 6, -4)'
setsid sleep TOKEN >/dev/null 2>&1 </dev/null &
(setsid setsid sleep TOKEN >/dev/null 2>&1 </dev/null &)
echo left
"""


def leftovers(user: int, *places: Path) -> list[Path]:
    """What belongs to the user there, also as its group."""
    found = []
    for place in places:
        for path in place.rglob("*"):
            with contextlib.suppress(OSError):
                if user in (path.lstat().st_uid, path.lstat().st_gid):
                    found.append(path)
    return found


@pytest.fixture
def open_home() -> Iterator[Path]:
    """The home of an instance that other users can reach."""
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="tentacle-test-"))
    base.chmod(0o755)
    (base / "home").mkdir()
    yield base / "home"
    shutil.rmtree(base)


async def test_nothing_of_a_script_reaches_the_next_one_that_has_its_user(
    new_lab: Callable[..., Lab], open_home: Path
) -> None:
    """The only one that there is to lend."""
    uids = own_uids(2)
    place = open_home / "for everybody"
    place.mkdir()
    place.chmod(0o777)
    lab = new_lab(options(replace(SANDBOXES["user, cgroup"], uids=uids)), open_home / "Work")
    await lab.engine.start()
    token = f"600.{os.getpid()}"
    given = f"PLACE='{place}'"
    keys = {"ADD_KEY": str(ADD_KEY), "KEYCTL": str(KEYCTL), "TOKEN": token}
    left, follow = (re.sub("|".join(keys), lambda key: keys[key[0]], text) for text in (LEAVE, NEXT))
    assert lines(await lab.run(given + left, "T-1")) == [str(uids.last), "left"]
    assert living(token) == []
    status = await lab.run("echo never", "T-2")
    assert "All users for scripts" in status.entries[-1].text
    await lab.engine.complete("T-1")
    await lab.engine.completed.drained()
    places = (open_home.parent, *map(Path, ("/tmp/.dotnet", "/var/tmp", "/dev/shm", "/run/lock")))
    assert leftovers(uids.last, *places) == []
    assert (place / "bash").stat().st_uid == (place / "left").stat().st_uid == uids.owner
    # The program is the owner's of what all share, not the user's; and no program gives other rights.
    assert lines(await lab.run(given + follow, "T-3")) == [str(uids.last), str(uids.last), "shared"]


SEND = """
import array, os, socket, time
with socket.socket(socket.AF_UNIX) as ours:
    ours.connect(NAME)
    ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1, os.open(".", os.O_RDONLY)]))])
print("ready", flush=True)
time.sleep(600)
"""
RECEIVE = """
import array, os, socket, time
with socket.socket(socket.AF_UNIX) as ours:
    ours.bind(NAME)
    ours.listen()
    print("ready", flush=True)
    given = ours.accept()[0].recvmsg(1, 1000)[1][0][2]
output, workspace = array.array("i", given)
os.write(output, b"of another script\\n")
while not os.path.exists(GO):
    time.sleep(0.01)
for what in (lambda: os.write(output, b"too late"), lambda: os.open("file", os.O_CREAT, dir_fd=workspace)):
    try:
        print(what())
    except OSError as error:
        print(error.strerror)
"""


async def test_an_open_file_that_was_given_away_reaches_no_result_and_no_workspace_later(
    new_lab: Callable[..., Lab], open_home: Path
) -> None:
    """Two scripts that agree can give each other what they have, for as long as both run."""
    if not interpreter():
        pytest.skip("needs a Python that every user can run, /usr/bin/python3 say")
    go = open_home / "go"
    lab = new_lab(options(replace(SANDBOXES["user, cgroup"], uids=own_uids(4))), open_home / "Work")
    await lab.engine.start()
    abstract = f"\0tentacle-test-{os.getpid()}"
    begin = f"exec {interpreter()} -I -S - <<'END'\nGO, NAME = {str(go)!r}, {abstract!r}\n"
    await lab.start(f"{begin}{RECEIVE}END\n", "T-2")
    await lab.started("T-2")
    await lab.start(f"{begin}{SEND}END\n", "T-1")
    await lab.started("T-1", "of another script")
    await lab.engine.cancel("T-1", 0)
    ended = await lab.ended("T-1")
    assert ended.exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    await lab.engine.complete("T-1")
    await lab.engine.completed.drained()
    go.touch()
    assert lines(await lab.ended("T-2")) == ["ready", "Broken pipe", "Permission denied"]
