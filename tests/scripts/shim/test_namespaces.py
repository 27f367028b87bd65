"""The namespaces of a private script, entered by real processes, and how its end is told across them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.shim.namespaces import _make_directories, exit_code

ENTER = """
import os, sys
from pathlib import Path
from tentacle.scripts.shim.namespaces import enter
from tentacle.scripts.shim.run_order import PrivateView
base = Path(sys.argv[1])
work, own = base / "work", base / "work" / "own"
shared = base / "shared"
enter(PrivateView(str(work), ((str(own / "tmp"), str(shared)),), (str(shared / "a" / "b"),)), str(own))
print(sorted(path.name for path in work.iterdir()), sorted(path.name for path in own.iterdir()))
print(sorted(path.name for path in (base / "shared").iterdir()), (own / "tmp" / "a" / "b").is_dir())
(own / "made").write_text("made")
(base / "shared" / "temporary").write_text("temporary")
try:
    (work / "other").mkdir()
except OSError as error:
    print(error.strerror)
print(sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1])
"""
FIRST = """
import os, sys, time
from tentacle.scripts.shim import syscalls
from tentacle.scripts.shim.namespaces import exit_code, run_as_first
reader, writer = os.pipe()
open_end, held = os.pipe()
wait, go_on = os.pipe()
if os.fork():
    os.close(writer), os.close(held)
    print("pipe", exit_code(os.read(reader, 64)), flush=True)
    # A process of the namespace is left, and so is the first one; but that one holds no pipe of the script open.
    print("output", os.read(open_end, 64), os.read(open_end, 64), flush=True)
    os.close(go_on)
    print("end", os.read(reader, 64))
    os._exit(0)
os.close(reader), os.close(open_end)
syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
def failed(error):
    print("failed", error, flush=True)
    os._exit(1)
def processes():
    return len([name for name in os.listdir("/proc") if name.isdigit()])
def script():
    os.write(held, b"%d %d" % (os.getpid(), processes()))
    # An orphan, which is the first process's own to bury.
    if (child := os.fork()) == 0:
        os._exit(0 if os.fork() else 9)
    os.waitpid(child, 0)
    while processes() > 2:
        time.sleep(0.001)
    if os.fork() == 0:
        os.close(held), os.close(go_on), os.close(writer)
        os.read(wait, 1)
        os._exit(9)
    exec(sys.argv[1])
run_as_first(writer, failed, script)
"""


def program(text: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", text, *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.splitlines()


@given(st.integers(0, 255))
def test_an_exit_code_is_read_as_it_was_written(code: int) -> None:
    assert exit_code(code.to_bytes(4, "big", signed=True)) == code


@given(st.integers(1, 64))
def test_the_signal_that_ended_a_script_is_told_as_bash_does(number: int) -> None:
    assert exit_code((-number).to_bytes(4, "big", signed=True)) == 128 + number


@given(st.binary(max_size=8).filter(lambda message: len(message) != 4))
def test_a_first_process_that_said_nothing_was_killed(message: bytes) -> None:
    assert exit_code(message) == 137


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
        "['a'] True",
        "Read-only file system",
        "[0, 1, 2]",
    ]
    assert Path("/proc/self/mounts").read_text() == before
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["foreign", "own"]
    assert (tmp_path / "work" / "own" / "made").read_text() == "made"
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["of others"]
    assert (tmp_path / "work" / "own" / "tmp" / "temporary").read_text() == "temporary"


@pytest.mark.parametrize(
    ("end", "code"), [("os._exit(0)", 0), ("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", 137), ("os.abort()", 134)]
)
def test_the_first_process_tells_how_the_script_ended_and_sees_nobody_else(end: str, code: int) -> None:
    assert program(FIRST, end) == [f"pipe {code}", "output b'2 2' b''", "end b''"]
