"""The trace that the work at hand belongs to (https://www.w3.org/TR/trace-context/, "traceparent Header").

A caller's `traceparent` goes with its call, through all tasks that the call begins, to the lines of the log and to the
environment of its script.  Services pass it on without seeing the call's wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from tentacle.records import dataclass

VARIABLE: Final = "TRACEPARENT"
"""What programs that were started find it by."""
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_LONGEST: Final = 256


@dataclass(frozen=True)
class Trace:
    """A well-formed `traceparent`, and the ids in it."""

    parent: str
    trace_id: str
    span_id: str


def read_trace(parent: str | None) -> Trace | None:
    """What a `traceparent` says; None for one that is to be ignored, as the standard has it."""
    found = _FORM.fullmatch(parent) if parent and len(parent) <= _LONGEST and parent.isprintable() else None
    if found is None or parent is None:
        return None
    version, trace_id, span_id, _, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or not (trace_id.strip("0") and span_id.strip("0")):
        return None
    return Trace(parent, trace_id, span_id)


@dataclass(frozen=True)
class Work:
    """What lines of the log belong to: a trace, a server (its thumbprint), a script's ticket; where there are such."""

    trace: Trace | None = None
    server: str = ""
    ticket: str = ""


_CURRENT: Final[ContextVar[Work | None]] = ContextVar("work", default=None)


def current_work() -> Work:
    """What this task works for."""
    return _CURRENT.get() or Work()


@contextmanager
def working_for(work: Work) -> Iterator[None]:
    """What is done in the block, and by tasks that it begins, is for `work`."""
    token = _CURRENT.set(work)
    try:
        yield
    finally:
        _CURRENT.reset(token)
