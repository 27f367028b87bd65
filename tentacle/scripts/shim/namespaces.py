"""The mounts of a script that is kept apart: its own /tmp and /var/tmp, no other workspace, and what all must share.

Scripts share the pid namespace of the host, whatever else they have of their own: what they lock one another with knows
its owners by process and thread number (docs/spec/services.md, "What Calamari needs of the host").

A script with a user of its own has more: processes of others are hidden; its System V objects, message queues and
shared memory are its own and end with it.  All file systems are mounted so that its user and one that owns what scripts
share are exchanged (idmapped mounts, Linux 5.12): the owner's files are the script's own, and what the script makes is
the owner's on the disk.  So it leaves nothing that belongs to its user, wherever it may write.  A file system that
cannot do that is read-only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re

from tentacle.scripts.shim import syscalls
from tentacle.scripts.shim.run_order import ScriptView, ViewPlace
from tentacle.scripts.shim.small_files import read_file, write_file
from tentacle.scripts.shim.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
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
_MEMORY = "/dev/shm"  # noqa: S108 - the name that the C library uses
_OWN_FILE_SYSTEMS = "/dev/fuse"
_NOBODY = 2**32 - 1
"""The number that no user can have."""


def enter(view: ScriptView, user: int | None = None) -> None:
    """Puts the calling process, and its later children, into namespaces of their own and makes the mounts.

    `user` is the user that the process is going to have, if that is one of its own.  Raises `OSError`.
    """
    uid, gid = os.geteuid(), os.getegid()
    identities = None if user is None else _exchange(view.owner, user)
    syscalls.unshare(CLONE_NEWNS | (CLONE_NEWUSER if uid else 0) | (0 if user is None else CLONE_NEWIPC))
    if uid:
        write_file("/proc/self/setgroups", "deny")
        write_file("/proc/self/uid_map", f"{uid} {uid} 1")
        write_file("/proc/self/gid_map", f"{gid} {gid} 1")
    # Later mounts of the host stay visible here; the mounts made here are invisible to the host.
    syscalls.mount("none", "/", None, MS_REC | MS_SLAVE)
    # Opened before anything is hidden, but after the unshare: an earlier descriptor belongs to a mount of the host.
    places = [(_take(place, identities), place.target) for place in (*view.outside, *view.inside)]
    if identities is not None:
        _exchange_users(identities)
        os.close(identities)
        _hide_what_others_do()
    for directory, target in places[: len(view.outside)]:
        _put(directory, target, taken_out=user is not None)
    _make_directories(view.work)
    syscalls.mount("tmpfs", view.work, "tmpfs", MS_NOSUID | MS_NODEV, _COVER)
    for directory, target in places[len(view.outside) :]:
        _put(directory, target, taken_out=user is not None)
    syscalls.mount("none", view.work, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _take(place: ViewPlace, identities: int | None) -> int:
    """Returns the open directory: with `identities` as a mount that is not in the tree yet, else only to be bound."""
    if identities is None:
        return os.open(place.source, _DIRECTORY)
    tree = syscalls.open_tree(place.source, recursive=place.shared)
    flags = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    if place.shared:
        syscalls.set_mount(tree, flags | MOUNT_ATTR_IDMAP, identities, name=place.source)
    else:
        syscalls.set_mount(tree, flags, name=place.source)
    return tree


def _put(directory: int, target: str, *, taken_out: bool) -> None:
    """Mounts what `_take` has returned on `target`, and closes it."""
    _make_directories(target)
    if taken_out:
        syscalls.move_mount(directory, target)
    else:
        syscalls.mount(f"/proc/self/fd/{directory}", target, None, MS_BIND | MS_REC)
    os.close(directory)


def _exchange_users(identities: int) -> None:
    """Replaces all that is mounted by copies in which the users are exchanged, or that are read-only."""
    copies = {"/": syscalls.open_tree("/")}
    for line in read_file("/proc/self/mountinfo").splitlines():
        point = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split(b" ")[4])
        name = os.fsdecode(point)
        if name not in copies:
            # Some are hidden below others, or must not be copied.
            with contextlib.suppress(OSError):
                copies[name] = syscalls.open_tree(name)
    for name, copy in copies.items():
        try:
            syscalls.set_mount(copy, MOUNT_ATTR_IDMAP, identities, name=name)
        except OSError:
            syscalls.set_mount(copy, MOUNT_ATTR_RDONLY, name=name)
    root = copies.pop("/")
    syscalls.move_mount(root, "/")
    os.fchdir(root)
    os.close(root)
    for name, copy in copies.items():
        # What is hidden below another mount is left out.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            syscalls.move_mount(copy, f".{name}")
        os.close(copy)
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".")
    os.chdir("/")


def _hide_what_others_do() -> None:
    syscalls.mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2")
    if os.path.exists(_OWN_FILE_SYSTEMS):  # noqa: PTH110
        # By one, and a union of file systems, the kernel itself would make a program that runs as the script's user.
        syscalls.mount(os.devnull, _OWN_FILE_SYSTEMS, None, MS_BIND)
    if os.path.isdir(_MEMORY):  # noqa: PTH112
        syscalls.mount("tmpfs", _MEMORY, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def _exchange(first: int | None, second: int) -> int:
    """Returns a user namespace, an open file, in which two users, and the groups of these numbers, are exchanged.

    It serves an idmapped mount; nothing ever runs in it.
    """
    low, high = sorted((second if first is None else first, second))
    lines = [f"{low} {high} 1", f"{high} {low} 1"] if low != high else [f"{low} {low} 1"]
    for start, end in ((0, low), (low + 1, high), (high + 1, _NOBODY)):
        if start < end:
            lines.append(f"{start} {start} {end - start}")
    begun, begun_writer = os.pipe()
    wait, wait_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(wait_writer)
            syscalls.unshare(CLONE_NEWUSER)
            os.write(begun_writer, b"1")
            os.read(wait, 1)
        finally:
            os._exit(0)
    try:
        os.close(begun_writer)
        if not os.read(begun, 1):
            raise OSError(errno.EPERM, "No user namespace can be made")
        for kind in ("uid", "gid"):
            write_file(f"/proc/{pid}/{kind}_map", "\n".join(lines))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    finally:
        for descriptor in (begun, wait, wait_writer):
            os.close(descriptor)
        os.waitpid(pid, 0)


def _make_directories(path: str) -> None:
    """Makes the directories that a mount over one of their parents has hidden."""
    made = ""
    for part in path.strip("/").split("/"):
        made += f"/{part}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(made, 0o711)  # noqa: PTH102
