"""What a run's state directory says, and the two moments that must happen only once: the claim and the result.

    {workspace}/.tentacle/
        prepared    the start command's settings; written and synced before anything may run
        claimed     the same file after a runner has taken the run on (the renaming is the claim)
        result      made beforehand with its space on the disk, so that a full disk cannot swallow the exit code; locked
                    by the runner as long as it watches, and names the cgroup that the runner shares with the run

The lock is a POSIX record lock: it dies with its holder whatever the way, is not inherited, and the kernel tells who
holds it, so that no stale process number is ever believed.  It also ends when its holder closes any descriptor of the
file, so there must be one only.  Few files, since some file systems take their time for each new one.

Imported by the processes that watch over scripts: standard library only, and little of it.
"""

from __future__ import annotations

import fcntl
import os
import struct

STATE = ".tentacle"
PREPARED, CLAIMED, RESULT = "prepared", "claimed", "result"

RESULT_SPACE = 8192
"""Bytes kept for the result; all but the first block is given back when the log's last lines need room."""
_RESULT_LENGTH = 64
_CGROUP_AT, _CGROUP_LENGTH = 1024, 2048
_FLOCK = struct.Struct("@hhqqi4x")


def claim(state: int) -> int | None:
    """Takes the run on; `None` when somebody else has or had it.

    `state` is the open state directory.  Gives the descriptor for the result, which carries the lock and must stay open
    until the result is there.
    """
    result = os.open(RESULT, os.O_RDWR | os.O_NOFOLLOW, dir_fd=state)
    try:
        fcntl.lockf(result, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(PREPARED, CLAIMED, src_dir_fd=state, dst_dir_fd=state)
    except (BlockingIOError, PermissionError, FileNotFoundError):
        os.close(result)
        return None
    return result


def note_cgroup(result: int, directory: str) -> None:
    """Keeps which cgroup the run is in.  A path that is too long for its place is not kept."""
    line = os.fsencode(directory) + b"\n"
    if len(line) <= _CGROUP_LENGTH:
        os.pwrite(result, line, _CGROUP_AT)


def read_cgroup(result: int) -> str:
    """What `note_cgroup` has kept; empty when nothing was."""
    line, end, _ = os.pread(result, _CGROUP_LENGTH, _CGROUP_AT).partition(b"\n")
    return os.fsdecode(line) if end and line.startswith(b"/") else ""


def holder(result: int) -> int | None:
    """The process that holds the lock; `None` when nobody does.  Takes nothing itself."""
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(result, fcntl.F_GETLK, question))
    return None if kind == fcntl.F_UNLCK else int(pid)


def write_result(result: int, exit_code: int, ended_ms: int) -> None:
    """Puts the exit code into the space kept for it."""
    line = b"exit %d at %d end" % (exit_code, ended_ms)
    os.pwrite(result, line.ljust(_RESULT_LENGTH - 1) + b"\n", 0)


def read_result(result: int) -> int | None:
    """The exit code; `None` when none has been written."""
    words = os.pread(result, _RESULT_LENGTH, 0).split()
    if len(words) != 5 or words[0] != b"exit" or words[4] != b"end":
        return None
    return int(words[1])


def reserve_result(result: int) -> None:
    """Makes the space that the result, and at the very end the log, will need."""
    os.pwrite(result, b" " * RESULT_SPACE, 0)


def give_back_reserve(result: int) -> None:
    """Frees a block for the log's last lines on a disk that is full."""
    os.ftruncate(result, RESULT_SPACE // 2)
