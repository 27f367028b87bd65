"""The few system calls that Python does not offer, as functions that raise `OSError`."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from typing import NoReturn

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 0x20, 0x1000, 0x4000, 0x80000

_CLONE_INTO_CGROUP = 0x200000000
_KEYCTL_JOIN_SESSION_KEYRING = 1
_MACHINE = os.uname().machine
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}.get(_MACHINE)
_IOPRIO_WHO_PROCESS = 1
_SYS_IOPRIO_GET = {"x86_64": 252, "aarch64": 31, "riscv64": 31}.get(_MACHINE)
_SYS_CLONE3 = 435
"""The same on every architecture that Python runs on under Linux."""

# PyDLL keeps the interpreter lock during the call, so that a forked child holds it.
_libc = ctypes.PyDLL(None, use_errno=True)
_python = ctypes.pythonapi


class _CloneArguments(ctypes.Structure):
    """`struct clone_args` of clone3(2), up to the field `cgroup`."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


def unshare(flags: int) -> None:
    """Puts the calling process into namespaces of its own (unshare(2))."""
    if _libc.unshare(flags) != 0:
        _fail()


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    words = (os.fsencode(source), os.fsencode(target), kind and kind.encode())
    if _libc.mount(*words, ctypes.c_ulong(flags), data and data.encode()) != 0:
        _fail(target)


def join_new_session_keyring() -> None:
    """Gives the calling process a session keyring of its own (keyctl(2)), where the kernel has keyrings."""
    if _SYS_KEYCTL is not None:
        _libc.syscall(_SYS_KEYCTL, ctypes.c_long(_KEYCTL_JOIN_SESSION_KEYRING), None)


def io_priority() -> int:
    """Returns the I/O priority of the calling process (ioprio_get(2)); -1 where it is not known how to ask."""
    return -1 if _SYS_IOPRIO_GET is None else int(_libc.syscall(_SYS_IOPRIO_GET, _IOPRIO_WHO_PROCESS, 0))


def fork_into_cgroup(cgroup: int) -> int:
    """Does what `os.fork` does, but the child is born in the cgroup whose directory is open as `cgroup`.

    Raises `OSError` where the kernel does not know this (before 5.7) or does not permit it.
    """
    arguments = _CloneArguments(flags=_CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=cgroup)
    _python.PyOS_BeforeFork()
    pid: int = _libc.syscall(_SYS_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    number = ctypes.get_errno()
    if pid == 0:
        _python.PyOS_AfterFork_Child()
    else:
        _python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, os.strerror(number))
    return pid


def _fail(name: str | None = None) -> NoReturn:
    number = ctypes.get_errno() or errno.EIO
    raise OSError(number, os.strerror(number), name)
