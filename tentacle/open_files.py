"""How many files this process may have open.  A server needs as many as it can get; a script expects what was usual.

Programs that use `select` break when the limit is above 1024.  So what we start gets the limit with which we were
started.
"""

from __future__ import annotations

import contextlib
import resource

_ENOUGH = 1 << 20
_USUAL = 1024


def _limits() -> tuple[int, int]:
    """The limit in force, and the one up to which it may be raised."""
    try:
        return resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:
        # Some sandboxes do not let anybody ask.
        return _USUAL, _USUAL


_INHERITED = _limits()[0]


def limit() -> int:
    """Returns the limit in force."""
    soft, _ = _limits()
    return _ENOUGH if soft == resource.RLIM_INFINITY else soft


def is_scarce(descriptor: int) -> bool:
    """Whether a file with this number was one of the last: an eighth of all is kept for scripts and for answers.

    The system gives the lowest number that is free.
    """
    return descriptor >= limit() * 7 // 8


def raise_limit() -> None:
    """Raises this process's limit as far as the system allows, and as it makes sense."""
    _, hard = _limits()
    enough = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    # A container may forbid it; then the limit stays as it was.
    with contextlib.suppress(OSError, ValueError):
        if limit() < enough:
            resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


def restore_limit(pid: int) -> None:
    """Gives a process that we have started the limit that we had at our own start."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (_INHERITED, hard))
