"""The system calls that Python does not offer, on the real kernel."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentacle.scripts.shim import syscalls
from tentacle.scripts.shim.run_cgroup import remove_empty
from tests.scripts.sandboxes import cgroup_parents

BORN = """
import os, sys
from tentacle.scripts.shim.syscalls import fork_into_cgroup
directory = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
sys.stdout.flush()
try:
    pid = fork_into_cgroup(directory)
except OSError as error:
    print("refused", error.errno)
    os._exit(0) if os.getppid() == int(sys.argv[2]) else os._exit(1)
if pid == 0:
    with open("/proc/self/cgroup") as file:
        print("child", file.read().split("0::")[1].splitlines()[0])
    sys.stdout.flush()
    os._exit(7)
print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
with open("/proc/self/cgroup") as file:
    print("parent", file.read().split("0::")[1].splitlines()[0])
"""
KEYRINGS = """
import ctypes
from tentacle.scripts.shim import syscalls
def own():
    return syscalls._libc.syscall(syscalls._SYS_KEYCTL, 0, -3, 1)
before = own()
syscalls.join_new_session_keyring()
print(own() not in (before, -1))
"""
NAMESPACE = """
import os
from tentacle.scripts.shim import syscalls
before = os.readlink("/proc/self/ns/mnt")
syscalls.unshare(syscalls.CLONE_NEWNS)
syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
syscalls.mount("tmpfs", "/mnt", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=64k,mode=0711")
print(os.readlink("/proc/self/ns/mnt") != before)
with open("/proc/self/mounts") as file:
    print([line.split()[3] for line in file if line.split()[1] == "/mnt"][-1])
"""


def program(text: str, *arguments: str) -> list[str]:
    """The lines that a new process writes."""
    done = subprocess.run([sys.executable, "-c", text, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def group() -> Iterator[Path]:
    top = cgroup_parents().unified
    assert top is not None
    path = top / f"tentacle-test-born-{os.getpid()}"
    path.mkdir()
    yield path
    assert remove_empty(str(path))


def test_a_child_is_born_in_the_cgroup_and_its_parent_stays_outside(group: Path) -> None:
    child, ended, parent = program(BORN, str(group), str(os.getpid()))
    assert child.rpartition("/")[2] == group.name
    assert ended == "ended 7"
    assert not parent.endswith(group.name)
    assert (group / "cgroup.procs").read_text() == ""


def test_a_directory_that_is_no_cgroup_is_refused_and_nothing_is_born(tmp_path: Path) -> None:
    assert program(BORN, str(tmp_path), str(os.getpid())) == [f"refused {errno.EBADF}"]


def test_a_process_gets_a_session_keyring_of_its_own() -> None:
    assert program(KEYRINGS) == ["True"]


def test_a_mount_is_made_with_its_flags_and_data_in_a_namespace_of_its_own() -> None:
    before = Path("/proc/self/mounts").read_text()
    apart, options = program(NAMESPACE)
    assert apart == "True"
    assert {"nosuid", "nodev", "size=64k", "mode=711"} <= set(options.split(","))
    assert Path("/proc/self/mounts").read_text() == before


def test_what_the_kernel_refuses_is_raised_with_its_reason() -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        syscalls.unshare(1)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(FileNotFoundError) as missing:
        syscalls.mount("tmpfs", "/nowhere/at all", "tmpfs", 0)
    assert missing.value.filename == "/nowhere/at all"
