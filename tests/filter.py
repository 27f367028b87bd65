"""`python filter.py ERROR CALL,CALL... PROGRAM ARGUMENT...`: runs a program that is refused these system calls.

As a container or `SystemCallFilter=` does it, by seccomp(2); no rights are needed for it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from pathlib import Path

_NUMBERS = {
    "x86_64": {
        "fchmod": 91, "flock": 73, "fsync": 74, "fstatfs": 138, "inotify_init1": 294, "memfd_create": 319,
        "pidfd_open": 434, "pidfd_send_signal": 424, "clone3": 435, "openat2": 437, "statx": 332, "close_range": 436,
        "unshare": 272, "mount": 165, "prlimit64": 302, "sched_getaffinity": 204, "statfs": 137, "keyctl": 250,
        "io_uring_setup": 425, "ioprio_get": 252, "getxattr": 191, "prctl": 157, "mknod": 133, "mknodat": 259,
        "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266, "chmod": 90, "fchmodat": 268, "fchmodat2": 452,
        "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260, "setns": 308, "umount2": 166, "pivot_root": 155,
        "add_key": 248, "request_key": 249, "bpf": 321, "perf_event_open": 298, "open_tree": 428, "move_mount": 429,
        "mount_setattr": 442,
    },
    "aarch64": {
        "fchmod": 52, "flock": 32, "fsync": 82, "fstatfs": 44, "inotify_init1": 26, "memfd_create": 279,
        "pidfd_open": 434, "pidfd_send_signal": 424, "clone3": 435, "openat2": 437, "statx": 291, "close_range": 436,
        "unshare": 97, "mount": 40, "prlimit64": 261, "sched_getaffinity": 123, "statfs": 43, "keyctl": 219,
        "io_uring_setup": 425, "ioprio_get": 31, "getxattr": 8, "prctl": 167, "mknodat": 33, "linkat": 37,
        "symlinkat": 36, "fchmodat": 53, "fchmodat2": 452, "fchown": 55, "fchownat": 54, "setns": 268, "umount2": 39,
        "pivot_root": 41, "add_key": 217, "request_key": 218, "bpf": 280, "perf_event_open": 241, "open_tree": 428,
        "move_mount": 429, "mount_setattr": 442,
    },
}  # fmt: skip
_LOAD_NUMBER, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL_WITH = 0x7FFF0000, 0x00050000
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2


def refused(error: str, *calls: str) -> tuple[str, ...]:
    """The beginning of a command that runs the rest of it under such a filter."""
    return sys.executable, str(Path(__file__)), error, ",".join(calls)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def _install(number: int, calls: list[int]) -> None:
    def step(code: int, skip: int, value: int) -> bytes:
        return struct.pack("=HBBI", code, 0, skip, value)

    steps = [step(_LOAD_NUMBER, 0, 0)]
    for call in calls:
        steps += [step(_JUMP_IF_EQUAL, 1, call), step(_RETURN, 0, _FAIL_WITH | number)]
    steps.append(step(_RETURN, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(steps))
    program = _Program(len(steps), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for what in ((_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0)):
        if prctl(*what) != 0:
            sys.exit(f"no filter could be installed: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    numbers = _NUMBERS[platform.machine()]
    # Some machines have only the newer call of two.
    _install(getattr(errno, sys.argv[1]), [numbers[name] for name in sys.argv[2].split(",") if name in numbers])
    os.execvp(sys.argv[3], sys.argv[3:])
