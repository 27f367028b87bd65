"""The record of a run, its `.run` file: whether it is claimed, how it ended, and which shim watches it now.

The first 4,096 bytes hold what changes while the run lives, each at a fixed place; they are real bytes, so that a full
disk cannot refuse a change.  The header follows: what was requested.  The agent writes all of it before the run may
start (`workspace/run_files.py`); afterwards only the shim writes, until it ends.  The form of the file is
docs/spec/run-files.md, "The run file" and "The lock".

The shim holds a POSIX record lock on the file as long as it watches the run.  Such a lock dies with its holder and is
not inherited, and the kernel names the holder, so no stale process number is ever believed.  It also ends when its
holder closes any descriptor of the file, so the shim has only one.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from typing import NamedTuple

from tentacle.scripts.shim.clock import BOOT, now_ms, since_boot_ms
from tentacle.scripts.shim.log_format import ERR_ENTRY, KINDS

VERSION_NUMBER = 1
VERSION = b"tentacle run %d\n" % VERSION_NUMBER
HEAD = 4096
"""Bytes before the header."""
LONGEST_REASON = 200
"""Bytes."""

_CLAIM_AT, _COMPLETED_AT, _RESULT_AT, _CGROUP_AT, _CGROUP_SPACE = 64, 128, 512, 1024, 2048
_CLAIMED, _COMPLETED = b"claimed\n", b"completed\n"
_UNCLAIMED = b" " * len(_CLAIMED)
_RESULT = struct.Struct("<iqq16sQcB200s")
"""The members of `Result`, the reason with its length before it."""
_USAGE = struct.Struct("<qq")
"""What follows the result since it is measured: `cpu` and `memory`, with a CRC of their own."""
_CRC = struct.Struct("<I")
_HEADER = struct.Struct("<II")
_FLOCK = struct.Struct("@hhqqi4x")


class Result(NamedTuple):
    """How a run ended.

    `ended` is in milliseconds since 1970; `since_boot` in milliseconds of a clock that does not step, counted from the
    start of the machine that is named by `boot` (16 bytes).  `lost` bytes of output are missing from the log without an
    entry that says so.  `reason` is one last line, of that `kind` of record, for which the log had no room.  `cpu` are
    the milliseconds that its processes were running, `memory` the kibibytes that the largest of them had at most; -1
    when that is not known.
    """

    exit_code: int
    ended: int
    since_boot: int
    boot: bytes
    lost: int = 0
    kind: bytes = ERR_ENTRY
    reason: str = ""
    cpu: int = -1
    memory: int = -1

    @classmethod
    def now(
        cls,
        exit_code: int,
        *,
        lost: int = 0,
        kind: bytes = ERR_ENTRY,
        reason: str = "",
        cpu: int = -1,
        memory: int = -1,
    ) -> Result:
        """Returns the result of a run that ends at this moment."""
        return cls(exit_code, now_ms(), since_boot_ms(), BOOT, lost, kind, reason, cpu, memory)


def head() -> bytes:
    """Returns the head of a new file: the run is not claimed."""
    return VERSION.ljust(HEAD - 1) + b"\n"


def encode_header(header: bytes) -> bytes:
    """Returns what follows the head."""
    return _HEADER.pack(len(header), zlib.crc32(header)) + header


def read_header(run: int, longest: int) -> bytes | None:
    """Returns the header of the open file; `None` for one that is not whole, of another version or above `longest`."""
    start = os.pread(run, HEAD + _HEADER.size, 0)
    if len(start) != HEAD + _HEADER.size or not start.startswith(VERSION):
        return None
    length, crc = _HEADER.unpack_from(start, HEAD)
    # No header is empty, and zeros, which a power cut leaves, have the CRC of one that is.
    if not 0 < length <= min(longest, os.fstat(run).st_size):
        return None
    header = os.pread(run, length, HEAD + _HEADER.size)
    return header if len(header) == length and zlib.crc32(header) == crc else None


def claim(path: str) -> int | None:
    """Claims the run for the calling process.

    Returns the locked descriptor, the only one that the process may ever have of this file; `None` when the run is or
    was claimed by another one, or when its file is gone.
    """
    try:
        run = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.lockf(run, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(run)
        return None
    # Only now that the lock is held, since its former holder may have ended the run meanwhile.
    if is_claimed(run) or is_completed(run) or read_result(run) is not None:
        os.close(run)
        return None
    mark_claimed(run)
    return run


def mark_claimed(run: int) -> None:
    """Notes that the run may have been started."""
    os.pwrite(run, _CLAIMED, _CLAIM_AT)


def is_claimed(run: int) -> bool:
    """Returns whether the run was ever claimed; also of a file that has been cut, since nothing may run twice."""
    return os.pread(run, len(_CLAIMED), _CLAIM_AT) != _UNCLAIMED


def was_begun(run: int) -> bool:
    """Returns whether a file with a damaged header belongs to a real run: it is claimed, watched or has ended."""
    claimed = os.pread(run, len(_CLAIMED), _CLAIM_AT) == _CLAIMED
    return claimed or read_result(run) is not None or holder(run) is not None


def version_of(run: int) -> int:
    """Returns the version of the open file; 0 for any other file."""
    line, end, _ = os.pread(run, 64, 0).partition(b"\n")
    number = line.removeprefix(b"tentacle run ")
    return int(number) if end and number != line and number.isdigit() else 0


def mark_completed(run: int) -> None:
    """Notes that the run was completed; it only keeps its mutex until its script ends."""
    os.pwrite(run, _COMPLETED, _COMPLETED_AT)


def is_completed(run: int) -> bool:
    """Returns whether `mark_completed` was called for the run."""
    return os.pread(run, len(_COMPLETED), _COMPLETED_AT) == _COMPLETED


def holder(run: int) -> int | None:
    """Returns the process number of the run's shim; `None` when there is none.  Takes no lock itself."""
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(run, fcntl.F_GETLK, question))
    return None if kind == fcntl.F_UNLCK else int(pid)


def write_result(run: int, result: Result) -> None:
    """Writes the result to its place, with one write.  A reason that is too long is cut."""
    reason = result.reason.encode("utf-8", "replace")[:LONGEST_REASON]
    data = _RESULT.pack(*result[:6], len(reason), reason)
    usage = _USAGE.pack(result.cpu, result.memory)
    os.pwrite(run, _with_crc(data) + _with_crc(usage), _RESULT_AT)


def read_result(run: int) -> Result | None:
    """Returns the result; `None` when there is none, or none that was written whole."""
    size = _CRC.size + _RESULT.size
    read = os.pread(run, size + _CRC.size + _USAGE.size, _RESULT_AT)
    if (data := _without_crc(read[:size], _RESULT.size)) is None:
        return None
    code, ended, since_boot, boot, lost, kind, length, reason = _RESULT.unpack(data)
    kind = kind if kind in KINDS and kind.isupper() else ERR_ENTRY
    # An earlier version's shim, which may still run, writes none.
    usage = _without_crc(read[size:], _USAGE.size)
    cpu, memory = (-1, -1) if usage is None else _USAGE.unpack(usage)
    return Result(code, ended, since_boot, boot, lost, kind, reason[:length].decode("utf-8", "replace"), cpu, memory)


def _with_crc(data: bytes) -> bytes:
    return _CRC.pack(zlib.crc32(data)) + data


def _without_crc(data: bytes, size: int) -> bytes | None:
    """Returns what `_with_crc` was given; `None` for anything else than that, of `size` bytes."""
    if len(data) != _CRC.size + size or _CRC.unpack_from(data)[0] != zlib.crc32(data[_CRC.size :]):
        return None
    return data[_CRC.size :]


def note_cgroup(run: int, directory: str) -> None:
    """Notes in which cgroup the run is.  A path that is too long for its place is not noted."""
    line = os.fsencode(directory) + b"\n"
    if len(line) <= _CGROUP_SPACE:
        os.pwrite(run, line, _CGROUP_AT)


def read_cgroup(run: int) -> str:
    """Returns what `note_cgroup` has noted; empty when nothing was."""
    line, end, _ = os.pread(run, _CGROUP_SPACE, _CGROUP_AT).partition(b"\n")
    return os.fsdecode(line) if end and line.startswith(b"/") else ""
