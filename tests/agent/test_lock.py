"""One agent per home, with a second process that wants it too."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tentacle.agent.lock import only_agent
from tentacle.errors import TentacleError
from tentacle.home_layout import LOCK_FILE
from tests.other_user import of_nobody, only_root, second_name, secret_of_root

HOLD = """
import sys
from pathlib import Path
from tentacle.agent.lock import only_agent
from tentacle.errors import TentacleError
try:
    with only_agent(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
except TentacleError as error:
    print(error)
"""


def other(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_two_processes(tmp_path: Path) -> None:
    home = tmp_path / "not" / "there yet"
    with other(home) as holder:
        assert first_line(holder) == "held"
        with pytest.raises(TentacleError) as refused, only_agent(home):
            pass
        assert str(refused.value) == f"another agent (process {holder.pid}) is already running for {home}"
        assert refused.value.hint
        holder.communicate()
    with only_agent(home), other(home) as late:
        assert first_line(late) == f"another agent (process {os.getpid()}) is already running for {home}"
        late.communicate()
    with only_agent(home):
        pass


def test_however_the_holder_ends_the_home_is_free_again(tmp_path: Path) -> None:
    with other(tmp_path) as holder:
        assert first_line(holder) == "held"
        holder.kill()
        holder.communicate()
    with only_agent(tmp_path):
        assert (tmp_path / LOCK_FILE).read_text() == f"{os.getpid()}\n"
    assert (tmp_path / LOCK_FILE).read_text() == ""


def test_a_failure_inside_frees_the_home(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_agent(tmp_path):
        raise ZeroDivisionError
    with only_agent(tmp_path):
        pass


def test_a_home_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/x")):
        with pytest.raises(TentacleError, match=f"cannot use the home directory {home}: ") as refused, only_agent(home):
            pass
        assert refused.value.exit_code == 1


IN_PLACE_OF_THE_LOCK: dict[str, Callable[[Path], object]] = {
    "a directory": lambda path: (path / "more").mkdir(parents=True),
    "a link": lambda path: path.symlink_to(path.parent / "precious"),
    "a pipe": os.mkfifo,
    "a socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "a device": lambda path: subprocess.run(["mknod", path, "c", "1", "5"], check=True),
    "a file without rights": lambda path: path.touch(mode=0),
}


@pytest.mark.parametrize("what", IN_PLACE_OF_THE_LOCK)
def test_what_a_script_puts_in_its_place_keeps_nobody_out_and_no_second_one_in(tmp_path: Path, what: str) -> None:
    if what == "a device" and os.geteuid() != 0:
        pytest.skip("only root can make devices")
    IN_PLACE_OF_THE_LOCK[what](tmp_path / LOCK_FILE)
    with only_agent(tmp_path), other(tmp_path) as late:
        assert first_line(late) == f"another agent (process {os.getpid()}) is already running for {tmp_path}"
        late.communicate()
    assert not (tmp_path / "precious").exists()
    assert len(list(tmp_path.iterdir())) == (1 if what == "a file without rights" else 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file immutable")
def test_an_immutable_one_is_locked_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / LOCK_FILE
    path.touch()
    if subprocess.run(["chattr", "+i", path], capture_output=True).returncode != 0:
        pytest.skip("this file system has no immutable files")
    try:
        with only_agent(tmp_path), other(tmp_path) as late:
            assert first_line(late) == f"another agent (process unknown) is already running for {tmp_path}"
            late.communicate()
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


def test_the_lock_file_is_the_agent_s_own(tmp_path: Path) -> None:
    with only_agent(tmp_path):
        assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o600


@only_root
def test_a_lock_that_is_another_file_too_is_not_written_to(open_way: Path) -> None:
    home, victim = of_nobody(open_way / "home"), secret_of_root(open_way / "of-root" / "f")
    second_name(home, LOCK_FILE, victim)
    with pytest.raises(TentacleError, match="several names"), only_agent(home):
        pass
    assert victim.read_bytes() == b"secret"
