"""Takes from a process, and all that it starts, what it could use against a later script that has its user.

No program gives it more rights than it has (no_new_privs): neither `sudo`, nor `crontab`, nor `at`.  The keyrings of a
user outlive its processes, so they are cleared before each script; a filter keeps scripts from closing them to their
user, who then could not clear them, or opening them to others.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER, _SPECTRE_ALLOWED = 1, 4
"""The second one is a flag: the filter is no reason to slow the script down."""
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_LOAD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_INSTRUCTION = struct.Struct("<HBBI")
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_X32 = 0x40000000
"""Marks the numbers of another set of calls on x86-64, which does the same."""
_KEYCTL_REFUSED = (4, 5, 22, 29)
"""Change the owner, change the rights, get the keyring that outlives all sessions, restrict what may be linked."""
_MACHINES = {
    # AUDIT_ARCH of the machine; its numbers of seccomp and keyctl; and of keyctl for its 32-bit programs.
    "x86_64": (0xC000003E, 317, 250, 288),
    "aarch64": (0xC00000B7, 277, 219, 311),
    "riscv64": (0xC00000F3, 277, 219, 219),
}

_libc = ctypes.PyDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """`struct sock_fprog` of seccomp(2)."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def give_up_rights() -> None:
    """Does it to the calling process.  Raises `OSError`."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), *(ctypes.c_ulong(0),) * 3) != 0:
        _fail("no_new_privs")
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        return
    architecture, seccomp, keyctl, foreign_keyctl = machine
    filter_ = _filter(architecture, keyctl, foreign_keyctl)
    program = _Program(len(filter_) // _INSTRUCTION.size, filter_)
    arguments = ctypes.c_uint(_SECCOMP_SET_MODE_FILTER), ctypes.c_uint(_SPECTRE_ALLOWED), ctypes.byref(program)
    if _libc.syscall(seccomp, *arguments) != 0:
        _fail("seccomp")


def _filter(architecture: int, keyctl: int, foreign_keyctl: int) -> bytes:
    """The program that the kernel runs at every system call: a step forward in each line, or over some of them."""
    refused = len(_KEYCTL_REFUSED)
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 2, 0, architecture),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_IF_EQUAL, refused + 5, refused + 4, foreign_keyctl),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AND, 0, 0, ~_X32 & 0xFFFFFFFF),
        (_JUMP_IF_EQUAL, 0, refused + 1, keyctl),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        *((_JUMP_IF_EQUAL, refused - number, 0, value) for number, value in enumerate(_KEYCTL_REFUSED)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(_INSTRUCTION.pack(*line) for line in lines)


def _fail(name: str) -> None:
    number = ctypes.get_errno() or errno.EIO
    raise OSError(number, os.strerror(number), name)
