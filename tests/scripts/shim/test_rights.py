"""What a script cannot do any more, whatever programs it starts; in processes of their own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.scripts.sandboxes import ADD_KEY, KEYCTL, own_uids

BEGIN = f"""
import ctypes, mmap, os, shutil, stat, subprocess, sys, tempfile
from tentacle.scripts.shim.rights import give_up_rights
from tentacle.scripts.shim.syscalls import clear_user_keyrings
user = int(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([]), os.setresgid(user, user, user), os.setresuid(user, user, user)
libc = ctypes.CDLL(None, use_errno=True)
def keyctl(*arguments):
    found = libc.syscall({KEYCTL}, *map(ctypes.c_long, arguments))
    return found if found >= 0 else os.strerror(ctypes.get_errno())
def add(ring):
    return libc.syscall({ADD_KEY}, b"user", b"tentacle-test", b"secret", 6, ring) > 0
def find(ring):
    return libc.syscall({KEYCTL}, 10, ring, b"user", b"tentacle-test", 0) > 0
"""


def told(text: str) -> list[str]:
    """The lines that a new process with a user of its own writes."""
    command = [sys.executable, "-c", BEGIN + text, str(own_uids().last)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.splitlines()


def test_no_program_gives_it_more_rights_and_it_cannot_take_that_back() -> None:
    assert told("give_up_rights(); print(libc.prctl(39, 0, 0, 0, 0), libc.prctl(38, 0, 0, 0, 0))") == ["1 -1"]


def test_keys_that_it_keeps_for_later_are_gone_before_the_next_script() -> None:
    keep = "give_up_rights(); print(add(-4), find(-4), add(-5), find(-5))"
    assert told(keep) == ["True True True True"]
    assert told("print(find(-4), find(-5)); clear_user_keyrings(); print(find(-4), find(-5))") == [
        "True True",
        "False False",
    ]


@pytest.mark.parametrize("operation", [4, 5, 22, 29])
def test_it_cannot_close_its_keyrings_to_the_next_script(operation: int) -> None:
    """Nor open them to another one."""
    arguments = {4: "-4, 0, 0", 5: "-4, 0", 22: "-1, -3", 29: "-4, 0, 0"}[operation]
    assert told(f"give_up_rights(); print(keyctl({operation}, {arguments}))") == ["Operation not permitted"]


MAKES_A_PROGRAM = {
    "chmod": "os.chmod(file, 0o4755)",
    "chmod of the group's bit": "os.chmod(file, 0o2755)",
    "fchmod": "os.fchmod(opened, 0o6755)",
    "fchmodat": "libc.fchmodat(-100, file.encode(), 0o4755, 0)",
    "fchmodat2": "libc.syscall(452, -100, file.encode(), 0o4755, 0)",
    "open": "libc.open((file + 'x').encode(), os.O_CREAT | os.O_WRONLY, 0o4755)",
    "openat": "os.open(file + 'x', os.O_CREAT | os.O_WRONLY, 0o2755)",
    "a file without a name": "os.open(os.path.dirname(file), os.O_TMPFILE | os.O_WRONLY, 0o4755)",
    "creat": "libc.creat((file + 'x').encode(), 0o4755)",
    "mknod": "os.mknod(file + 'x', 0o104755)",
    "openat2": "libc.syscall(437, -100, (file + 'x').encode(), (ctypes.c_uint64 * 3)(0o101, 0o4755, 0), 24)",
    "io_uring": "libc.syscall(425, 8, (ctypes.c_char * 120)())",
    "chmod -x32": "libc.syscall(0x4000005a, file.encode(), 0o4755) if os.uname().machine == 'x86_64' else -1",
}
FILES = """
directory = tempfile.mkdtemp()
file = directory + "/f"
opened = os.open(file, os.O_CREAT | os.O_RDWR, 0o700)
give_up_rights()
def attempt():
    try:
        return WHAT
    except OSError:
        return -1
result = attempt()
found = [os.stat(f"{directory}/{one}").st_mode & 0o6000 for one in os.listdir(directory)]
print(result is None or result >= 0, any(found))
shutil.rmtree(directory)
"""


@pytest.mark.parametrize("how", MAKES_A_PROGRAM)
def test_it_makes_no_program_that_runs_as_its_user(how: str) -> None:
    """Such a one could wait in the workspace of another script until its user is lent again."""
    assert told(FILES.replace("WHAT", MAKES_A_PROGRAM[how])) == ["False False"]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="these are the calls of x86")
def test_nor_by_the_calls_of_32_bit_programs() -> None:
    """`int 0x80` with EAX 15, chmod, in memory below 4 GiB: the file's name stands behind the code."""
    code = "b8 0f 00 00 00 48 89 fb 89 f1 53 cd 80 5b c3"
    text = f"""
area = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40, 7)
area.write(bytes.fromhex("{code.replace("48 89 fb", "53 48 89 fb").replace("53 cd 80 5b", "cd 80 5b")}"))
place = ctypes.addressof(ctypes.c_char.from_buffer(area))
name = (directory + "/f").encode() + b"\\0"
area.seek(2048); area.write(name)
"""
    attempt = "ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32, ctypes.c_uint32)(place)(place + 2048, 0o4755)"
    script = FILES.replace("give_up_rights()", text + "give_up_rights()").replace("WHAT", attempt)
    assert told(script) == ["False False"]


TOOLS = {
    "chmod u+s f": (1, "600"),
    "chmod g+s d": (1, ""),
    "mkdir -m 2775 n": (1, ""),
    "install -m 4755 f n": (1, "600"),
    "tar -xpf a.tar": (2, "755"),
    "tar -xf a.tar": (0, "755"),
    'cp --preserve=mode "$SETUID" n': (1, "755"),
    'cp -p "$SETUID" n': (0, "755"),
    'cp -a "$SETUID" n': (0, "755"),
    'cp "$SETUID" n': (0, "755"),
}
"""What a tool ends with, and the mode of the file that there is then."""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user reaches."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="the file that is copied must belong to somebody else")
@pytest.mark.parametrize("command", TOOLS)
def test_what_tools_say_that_would_set_such_bits(command: str, public: Path) -> None:
    """docs/security.md, "What is not promised"."""
    original = public / "program"
    original.write_text("x")
    original.chmod(0o4755)
    made = tarfile.TarInfo("n")
    made.mode, made.size = 0o4755, 1
    with tarfile.open(public / "a.tar", "w") as archive:
        archive.addfile(made, io.BytesIO(b"x"))
    text = f"""
os.chdir(tempfile.mkdtemp())
shutil.copy({str(public / "a.tar")!r}, "a.tar")
os.umask(0o022)
open("f", "w").close(), os.chmod("f", 0o600), os.mkdir("d")
give_up_rights()
environment = {{**os.environ, "SETUID": {str(original)!r}, "LC_ALL": "C"}}
ended = subprocess.run(["bash", "-c", {command!r}], capture_output=True, text=True, env=environment)
name = "n" if os.path.isfile("n") else "f" if {command!r}.startswith("chmod u") else ""
print(ended.returncode, format(stat.S_IMODE(os.stat(name).st_mode), "o") if name else "")
print("Operation not permitted" in ended.stderr)
shutil.rmtree(os.getcwd())
"""
    code, mode = TOOLS[command]
    assert told(text) == [f"{code} {mode}", str(code != 0)]


def test_all_other_modes_are_given() -> None:
    text = FILES.replace("WHAT", "[os.chmod(file, 0o1755), os.mkdir(file + 'd', 0o700), os.open(file, 0, 0o4755)][2]")
    assert told(text) == ["True False"]


def test_all_other_calls_go_on() -> None:
    text = "give_up_rights(); print(keyctl(1, 0) != 'Operation not permitted', keyctl(0, -3, 0) > 0, os.getpid() > 0)"
    assert told(text) == ["True True True"]
