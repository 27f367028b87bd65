"""The few system calls that Python does not offer, as functions that raise `OSError`."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from typing import NoReturn

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x00020000, 0x08000000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 0x20, 0x1000, 0x4000, 0x80000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_IDMAP = 1, 2, 4, 0x00100000

_CLONE_INTO_CGROUP = 0x200000000
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_NO_AUTOMOUNT, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x100, 0x800, 0x1000, 0x8000
_MNT_DETACH = 2
_OPEN_TREE_CLONE, _MOVE_MOUNT_FROM_EMPTY = 1, 4
_KEYCTL_JOIN_SESSION_KEYRING, _KEYCTL_CLEAR = 1, 7
_USER_KEYRINGS = (-5, -4)
"""The session keyring of a user, and then the one that it links to."""
_MACHINE = os.uname().machine
_SYS_KEYCTL = {
    "x86_64": 250, "i686": 288, "aarch64": 219, "armv7l": 311, "ppc64le": 271, "riscv64": 219, "s390x": 280,
}.get(_MACHINE)  # fmt: skip
_IOPRIO_WHO_PROCESS = 1
_SYS_IOPRIO_GET = {"x86_64": 252, "aarch64": 31, "riscv64": 31}.get(_MACHINE)
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_CLONE3, _SYS_MOUNT_SETATTR = 428, 429, 435, 442
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


class _MountAttributes(ctypes.Structure):
    """`struct mount_attr` of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace")]


def unshare(flags: int) -> None:
    """Puts the calling process into namespaces of its own (unshare(2))."""
    if _libc.unshare(flags) != 0:
        _fail()


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    words = (os.fsencode(source), os.fsencode(target), kind and kind.encode())
    if _libc.mount(*words, ctypes.c_ulong(flags), data and data.encode()) != 0:
        _fail(target)


def open_tree(path: str, *, recursive: bool = False) -> int:
    """Returns a copy of the mount at `path`, from there on down, that is not in the tree (open_tree(2), Linux 5.2).

    Does not follow a symbolic link at the end of `path`.  With `recursive` the mounts below come along.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT
    flags |= _AT_RECURSIVE if recursive else 0
    tree: int = _libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags))
    return tree if tree >= 0 else _fail(path)


def set_mount(tree: int, attributes: int, identities: int | None = None, *, name: str) -> None:
    """Sets attributes of an open mount and all that came along with it (mount_setattr(2), Linux 5.12).

    MOUNT_ATTR_IDMAP needs the open user namespace `identities`.  `name` is the one that an `OSError` gets.
    """
    change = _MountAttributes(set=attributes, namespace=0 if identities is None else identities)
    flags = ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE)
    size = ctypes.c_size_t(ctypes.sizeof(change))
    if _libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(change), size) != 0:
        _fail(name)


def move_mount(tree: int, target: str) -> None:
    """Mounts what `open_tree` has returned on `target` (move_mount(2))."""
    flags = ctypes.c_uint(_MOVE_MOUNT_FROM_EMPTY)
    if _libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), flags) != 0:
        _fail(target)


def pivot_root(root: str, old: str) -> None:
    """pivot_root(2)."""
    if _libc.pivot_root(os.fsencode(root), os.fsencode(old)) != 0:
        _fail(root)


def unmount(target: str) -> None:
    """Takes a mount and all below it out of the tree at once, whoever still uses it (umount2(2) with MNT_DETACH)."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH) != 0:
        _fail(target)


def join_new_session_keyring() -> None:
    """Gives the calling process a session keyring of its own (keyctl(2)), where the kernel has keyrings."""
    if _SYS_KEYCTL is not None:
        _libc.syscall(_SYS_KEYCTL, ctypes.c_long(_KEYCTL_JOIN_SESSION_KEYRING), None)


def clear_user_keyrings() -> None:
    """Forgets the keys that earlier processes of the calling process's user have kept, where the kernel has keyrings.

    Raises `OSError` when it may not.
    """
    for keyring in _USER_KEYRINGS if _SYS_KEYCTL is not None else ():
        done = _libc.syscall(_SYS_KEYCTL, ctypes.c_long(_KEYCTL_CLEAR), ctypes.c_long(keyring))
        # A keyring that has been revoked is of no use to anybody.  Containers may not use keys at all (EPERM).
        if done != 0 and ctypes.get_errno() == errno.EACCES:
            _fail("keyring")


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
