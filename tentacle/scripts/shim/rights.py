"""Takes from a process, and all that it starts, what it could use against a later script that has its user.

No program gives it more rights than it has (no_new_privs): neither `sudo`, nor `crontab`, nor `at`.  A filter of system
calls keeps it from two things that would outlive it:

* It makes no program that runs as its user, or with its group, whoever starts it (the setuid and setgid bits).  Calls
  that would hide such a mode in memory (openat2) or in a queue (io_uring) are not there; all programs that know them
  know how to do without.
* The keyrings of a user outlive its processes, so they are cleared before each script.  It cannot close them to its
  user, who then could not clear them, nor open them to others.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from typing import NamedTuple

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER, _SPECTRE_ALLOWED = 1, 4
"""The second one is a flag: the filter is no reason to slow the script down."""
_ALLOW, _REFUSE, _ABSENT = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_LOAD, _AND, _JUMP_IF_EQUAL, _JUMP_IF_ANY, _RETURN = 0x20, 0x54, 0x15, 0x45, 0x06
_INSTRUCTION = struct.Struct("<HBBI")
_Line = tuple[int, int, int, int]
"""Operation, lines to leap over when it is so, and when it is not, and a number."""
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32 = 0x40000000
"""Marks the numbers of another set of calls on x86-64, which does the same."""
_CREATES = 0x40 | 0x400000
"""O_CREAT and the bit of O_TMPFILE, the same on all these machines; without them a mode means nothing."""
_SETS_ID = stat.S_ISUID | stat.S_ISGID
_KEYCTL_REFUSED = (4, 5, 22, 29)
"""Change the owner, change the rights, get the keyring that outlives all sessions, restrict what may be linked."""


class _Calls(NamedTuple):
    """The calls of one set that are looked at: AUDIT_ARCH, keyctl, and with the place of their mode, counted from 0,
    those that change or make a file; `opening` have the flags before the mode.
    """

    architecture: int
    keyctl: int
    modes: dict[int, int]
    opening: dict[int, int]


_FOR_ALL, _ABSENT_CALLS = {452: 2}, (425, 437)
"""fchmodat2; io_uring_setup and openat2: the same on every machine."""
# fchmod, fchmodat, mknodat; openat.  Those with more have chmod, creat and mknod, and open, too.
_X86_64 = _Calls(0xC000003E, 250, {91: 1, 268: 2, 259: 2, 90: 1, 85: 1, 133: 1}, {257: 3, 2: 2})
_I386 = _Calls(0x40000003, 288, {94: 1, 306: 2, 297: 2, 15: 1, 8: 1, 14: 1}, {295: 3, 5: 2})
_AARCH64 = _Calls(0xC00000B7, 219, {52: 1, 53: 2, 33: 2}, {56: 3})
_ARM = _Calls(0x40000028, 311, {94: 1, 333: 2, 324: 2, 15: 1, 8: 1, 14: 1}, {322: 3, 5: 2})
_RISCV64 = _AARCH64._replace(architecture=0xC00000F3)
_RISCV32 = _AARCH64._replace(architecture=0x400000F3)
_MACHINES = {
    # The number of seccomp, and the sets of calls: its own, and that of its 32-bit programs.
    "x86_64": (317, (_X86_64, _I386)),
    "aarch64": (277, (_AARCH64, _ARM)),
    "riscv64": (277, (_RISCV64, _RISCV32)),
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
    seccomp, sets = machine
    filter_ = b"".join(_INSTRUCTION.pack(*line) for line in _filter(sets))
    program = _Program(len(filter_) // _INSTRUCTION.size, filter_)
    arguments = ctypes.c_uint(_SECCOMP_SET_MODE_FILTER), ctypes.c_uint(_SPECTRE_ALLOWED), ctypes.byref(program)
    if _libc.syscall(seccomp, *arguments) != 0:
        _fail("seccomp")


def _filter(sets: Iterable[_Calls]) -> list[_Line]:
    """The program that the kernel runs at every system call.  Calls of any other set are refused."""
    lines: list[_Line] = []
    for calls in sets:
        body = _of_set(calls)
        lines += [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_JUMP_IF_EQUAL, 0, len(body), calls.architecture), *body]
    return [*lines, (_RETURN, 0, 0, _REFUSE)]


def _of_set(calls: _Calls) -> list[_Line]:
    lines: list[_Line] = [(_LOAD, 0, 0, _NUMBER_AT)]
    if calls is _X86_64:
        lines.append((_AND, 0, 0, ~_X32 & 0xFFFFFFFF))
    bodies = {calls.keyctl: _unless_equal(0, _KEYCTL_REFUSED)}
    bodies |= {number: _unless_any(mode, _SETS_ID) for number, mode in (calls.modes | _FOR_ALL).items()}
    for number, mode in calls.opening.items():
        bodies[number] = [_load(mode - 1), (_JUMP_IF_ANY, 1, 0, _CREATES), (_RETURN, 0, 0, _ALLOW)]
        bodies[number] += _unless_any(mode, _SETS_ID)
    bodies |= {number: [(_RETURN, 0, 0, _ABSENT)] for number in _ABSENT_CALLS}
    for number, body in bodies.items():
        lines += [(_JUMP_IF_EQUAL, 0, len(body), number), *body]
    return [*lines, (_RETURN, 0, 0, _ALLOW)]


def _load(argument: int) -> _Line:
    # The lower half of it: these machines are little endian, and neither modes nor flags are longer.
    return _LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument


def _unless_any(argument: int, bits: int) -> list[_Line]:
    """Refuses the call where the argument has any of these bits."""
    return [_load(argument), (_JUMP_IF_ANY, 0, 1, bits), (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]


def _unless_equal(argument: int, values: Iterable[int]) -> list[_Line]:
    """Refuses the call where the argument is one of these values."""
    refused = [line for value in values for line in ((_JUMP_IF_EQUAL, 0, 1, value), (_RETURN, 0, 0, _REFUSE))]
    return [_load(argument), *refused, (_RETURN, 0, 0, _ALLOW)]


def _fail(name: str) -> None:
    number = ctypes.get_errno() or errno.EIO
    raise OSError(number, os.strerror(number), name)
