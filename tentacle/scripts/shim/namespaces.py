"""The namespaces of a private script: its own /tmp and /var/tmp, no other workspace, no process but its own.

The process that becomes the script enters them in three steps.  It unshares the namespaces (with a user namespace that
keeps the user's number, unless it is root), mounts what is different, and forks a first process of the new pid
namespace that lives as long as any process in it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import NoReturn

from tentacle.scripts.shim import syscalls
from tentacle.scripts.shim.run_order import PrivateView
from tentacle.scripts.shim.small_files import write_file
from tentacle.scripts.shim.syscalls import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
)

_COVER = "size=64k,nr_inodes=64,mode=0711"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_EXIT = 4
"""Bytes of the message that says how the script ended."""


def enter(view: PrivateView, own: str) -> None:
    """Puts the calling process, and its later children, into namespaces of their own and makes the mounts.

    `own` is the run's workspace.  Raises `OSError`.
    """
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(CLONE_NEWNS | CLONE_NEWPID | (CLONE_NEWUSER if uid else 0))
    if uid:
        write_file("/proc/self/setgroups", "deny")
        write_file("/proc/self/uid_map", f"{uid} {uid} 1")
        write_file("/proc/self/gid_map", f"{gid} {gid} 1")
    # Later mounts of the host stay visible here; the mounts made here are invisible to the host.
    syscalls.mount("none", "/", None, MS_REC | MS_SLAVE)
    # Opened after the unshare: an earlier descriptor belongs to a mount of the host and cannot be bound here.
    workspace = os.open(own, _DIRECTORY)
    temporary = [(os.open(source, _DIRECTORY), target) for source, target in view.temporary]
    for directory, target in temporary:
        _bind(directory, target)
    for path in (*view.wanted, view.work):
        _make_directories(path)
    syscalls.mount("tmpfs", view.work, "tmpfs", MS_NOSUID | MS_NODEV, _COVER)
    os.mkdir(own, 0o700)  # noqa: PTH102 - pathlib is too much for a small process
    _bind(workspace, own)
    syscalls.mount("none", view.work, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    for directory in (workspace, *(directory for directory, _ in temporary)):
        os.close(directory)


def run_as_first(exit_pipe: int, failed: Callable[[OSError], NoReturn], script: Callable[[], NoReturn]) -> NoReturn:
    """Forks the first process of the new pid namespace, and in it the second, which calls `script`.

    The calling process ends.  The first process writes how the script ended to `exit_pipe`.  It stays until it has no
    child any more, because its end would kill every process in the namespace.
    """
    if os.fork():
        os._exit(0)
    try:
        syscalls.mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        pid = os.fork()
    except OSError as error:
        failed(error)
    if pid == 0:
        script()
    # Above all the writing ends of the output pipes: while they are open here, the shim never sees their end.
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) != exit_pipe:
            with contextlib.suppress(OSError):
                os.close(int(name))
    while True:
        try:
            ended, status = os.wait()
        except ChildProcessError:
            os._exit(0)
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            os.write(exit_pipe, code.to_bytes(_EXIT, "big", signed=True))
            os.close(exit_pipe)


def exit_code(message: bytes) -> int:
    """Returns the exit code that the first process has written, 137 when it was killed before it could."""
    status = int.from_bytes(message, "big", signed=True) if len(message) == _EXIT else -signal.SIGKILL
    return status if status >= 0 else 128 - status


def _bind(directory: int, target: str) -> None:
    syscalls.mount(f"/proc/self/fd/{directory}", target, None, MS_BIND)


def _make_directories(path: str) -> None:
    """Makes the directories that a mount over one of their parents has hidden."""
    made = ""
    for part in path.strip("/").split("/"):
        made += f"/{part}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(made, 0o711)  # noqa: PTH102
