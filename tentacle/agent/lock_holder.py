"""Which process holds the lock of a home, and whether that can be an agent.

A process that a script has left behind may hold it, from the moment on in which the agent was killed.  Two agents would
be worse than none, so what may be an agent counts as one.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from tentacle.agent.control.place import connect, process_of_peer
from tentacle.scripts.sandbox.cgroups import PREFIX
from tentacle.scripts.shim.run_processes import MARK
from tentacle.scripts.shim.small_files import read_file

_LOCK: Final = re.compile(rb"^\d+: (?:FLOCK|POSIX) .* (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ", re.MULTILINE)
"""A line of /proc/locks (proc_locks(5)): process, and device and number of the file."""
_WORDS: Final = frozenset({b"agent", b"run"})
"""The names of the command that runs an agent; one of them is always among its arguments."""
_SECONDS: Final = 1.0


def may_be_agent(home: Path, descriptor: int) -> bool:
    """Whether the holder of the lock on the open file may be an agent of `home`."""
    pids = _holders(os.fstat(descriptor).st_ino)
    return not pids or any(_is_like_an_agent(home, pid) for pid in pids)


def _holders(inode: int) -> list[int]:
    """The processes that the kernel names; none where it does not, say of another pid namespace."""
    found = [int(pid) for pid, number in _LOCK.findall(read_file("/proc/locks")) if int(number) == inode]
    return [pid for pid in found if pid > 0]


def _is_like_an_agent(home: Path, pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        # It has left the lock to a child, which no agent does.
        return False
    except PermissionError:
        return True
    words = read_file(f"/proc/{pid}/cmdline").lower().split(b"\0")
    if len(words) > 1 and not _WORDS.intersection(words) and not _is_of_our_program(pid):
        return False
    # A script may start an agent, and may also give any process such a name.
    return not is_of_a_script(pid) or _answers(home) == pid


def _is_of_our_program(pid: int) -> bool:
    """Whether it is run by the same interpreter as this process.  One of whom that cannot be seen counts."""
    try:
        return Path(f"/proc/{pid}/exe").samefile("/proc/self/exe")
    except OSError:
        return True


def is_of_a_script(pid: int) -> bool:
    """Whether a script has started that process, as far as can be seen."""
    marked = any(one.startswith(f"{MARK}=".encode()) for one in read_file(f"/proc/{pid}/environ").split(b"\0"))
    return marked or f"/{PREFIX}".encode() in read_file(f"/proc/{pid}/cgroup")


def _answers(home: Path) -> int:
    """The process that listens on the control socket; 0 for none."""
    with suppress(OSError):
        connection = connect(home, _SECONDS)
        try:
            return process_of_peer(connection)
        finally:
            connection.close()
    return 0
