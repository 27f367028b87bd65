"""What this host lacks or hides, and what becomes of it: the agent works, but something is not as elsewhere.

One list, which the log of an agent shows at its start and `doctor` whenever it is asked.  Each fact is tried out, since
kernels, mounts and filters of system calls all decide about it.  Must not know who works around it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tentacle.disk import may_write, user_home
from tentacle.errors import TentacleError
from tentacle.records import dataclass

PROC: Final = Path("/proc")
TEMPORARY: Final = Path("/tmp")  # noqa: S108 - the name that scripts use
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Shortcoming:
    """`what` is missing with its consequence, in one sentence; `advice` is what to do about it."""

    what: str
    advice: str


def shortcomings(environ: Mapping[str, str], proc: Path = PROC, temporary: Path = TEMPORARY) -> list[Shortcoming]:
    """Returns all that is found; `environ` is the environment that scripts get.  Raises nothing."""
    filtered = "Allow the system call where processes are filtered: SystemCallFilter= of the unit, or the container."
    found: list[tuple[bool, str, str]] = [
        (
            _works(_make_memory_file),
            "memfd_create is refused: what a script is started with passes through a file on the disk for a moment.",
            filtered,
        ),
        (
            _works(_open_pidfd),
            "pidfd_open is refused: processes are known by their numbers alone.",
            filtered,
        ),
        (
            _works(_watch_file),
            "inotify is not to be had: lines of standard output and standard error may change places in a log.",
            "Raise the sysctl fs.inotify.max_user_instances, or allow the system call.",
        ),
        (
            (proc / "self" / "stat").exists(),
            "/proc is missing or masked: a cancel ends only what has not left the script's process group, and the "
            "cgroup of a script where there is one.",
            "Mount /proc: mount -t proc proc /proc",
        ),
        (
            (proc / "self" / "mountinfo").exists() and (proc / "self" / "cgroup").exists(),
            "/proc hides mounts and cgroups: scripts get no cgroup of their own, and no limits on what they use.",
            "Take ProcSubset= out of the service's unit, or what masks files of /proc in the container.",
        ),
        (
            bool(user_home()),
            f"The user {os.geteuid()} has no entry in the system's list of users: some tools refuse to run for it.",
            f"Add one, say with: useradd --uid {os.geteuid()} tentacle",
        ),
        (
            may_write(Path(environ.get("HOME") or "/nowhere")) or not environ.get("HOME"),
            f"HOME is '{environ.get('HOME', '')[:200]}', where this user cannot write: "
            "tools that keep files there fail.",
            "Set HOME to a directory of the agent's user.",
        ),
        (
            temporary.is_dir() and may_write(temporary),
            f"'{temporary}' is missing or cannot be written: most tools keep temporary files there.",
            f"Mount it, say with: mount -t tmpfs -o mode=1777 tmpfs {temporary}",
        ),
    ]
    return [Shortcoming(what, advice) for fine, what, advice in found if not fine]


def require_threads() -> None:
    """Raises `TentacleError` where no thread can be made: without them nothing works, and nobody would say why."""
    try:
        threading.Thread(target=int).start()
    except RuntimeError as error:
        raise lack_of_threads(error) or error from None


def _works(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _make_memory_file() -> None:
    os.close(os.memfd_create("tentacle-check", os.MFD_CLOEXEC))


def _open_pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _watch_file() -> None:
    descriptor = _libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        if _libc.inotify_add_watch(descriptor, b"/", 2) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
    finally:
        os.close(descriptor)


def lack_of_threads(error: Exception) -> TentacleError | None:
    """What to tell of an error that says that no thread can be made; None for any other."""
    # Python has no kind of its own for it (CPython, Modules/_threadmodule.c).
    if not isinstance(error, RuntimeError) or "can't start new thread" not in str(error):
        return None
    return TentacleError(
        f"This host lets no thread be made: {error}",
        hint="Raise the limit on tasks and memory; or update what filters system calls, which must answer clone3 "
        "with ENOSYS and not with EPERM.",
    )
