"""What a script cannot do any more, whatever programs it starts; in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.scripts.sandboxes import ADD_KEY, KEYCTL, own_uids

BEGIN = f"""
import ctypes, os, sys
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
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()


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


def test_all_other_calls_go_on() -> None:
    text = "give_up_rights(); print(keyctl(1, 0) != 'Operation not permitted', keyctl(0, -3, 0) > 0, os.getpid() > 0)"
    assert told(text) == ["True True True"]
