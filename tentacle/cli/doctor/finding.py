"""The findings of `doctor`, and how probes are run: all at the same time, each with a time limit.

Must not know what is looked at.
"""

from __future__ import annotations

import asyncio
import enum
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from tentacle.disk import user_name
from tentacle.errors import TentacleError, one_line
from tentacle.records import dataclass

T = TypeVar("T")

_FAILURES: Final = (OSError, ValueError, RuntimeError, TentacleError)
LIMIT: Final = 5.0
"""Seconds for one step of a probe."""


class Level(enum.StrEnum):
    """How serious a finding is.  Only `FAIL` makes the command fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """`check` is a word or two; `found` says what there is; `advice` what to do next, for anything that is not ok."""

    check: str
    level: Level
    found: str
    advice: str | None = None


@dataclass(frozen=True)
class ReportSection:
    """The findings about one thing, e.g. the machine or a server."""

    title: str
    findings: tuple[Finding, ...]


def ok(check: str, found: str) -> Finding:
    """A finding that needs no advice."""
    return Finding(check, Level.OK, found)


def warn(check: str, found: str, advice: str) -> Finding:
    """A finding that somebody should know of although the agent works."""
    return Finding(check, Level.WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    """A finding that keeps the agent from its work."""
    return Finding(check, Level.FAIL, found, advice)


Probe = Callable[[], Awaitable[Sequence[Finding]]]


async def in_daemon_thread(function: Callable[[], T], limit: float = LIMIT) -> T:
    """Returns the result of a function that may block; raises `TimeoutError` after `limit` seconds.

    `OSError`, `ValueError`, `RuntimeError` and `TentacleError` of the function are raised here.  At its end the process
    does not wait for the thread, as it would for the event loop's own: a resolver or a file system may hang for long.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = function()
        except _FAILURES as error:
            failure = error
        with suppress(RuntimeError):  # The loop is closed already.
            loop.call_soon_threadsafe(finish, result, failure)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wait_for(done, limit)


def local_probe(check: str, function: Callable[[], Iterable[Finding]]) -> Probe:
    """A probe that runs `function`, which looks at this machine and may block."""

    async def probe() -> Sequence[Finding]:
        try:
            return await in_daemon_thread(lambda: tuple(function()))
        except TimeoutError:
            return [
                fail(
                    check,
                    f"no answer from this machine within {LIMIT:g} s",
                    "Look for a disk or a network file system that hangs: mount, dmesg.",
                )
            ]
        except PermissionError as error:
            found = f"{user_name(os.geteuid())} may not look at {error.filename or 'it'}"
            return [fail(check, found, "Run this as the user of the agent, or as root.")]
        except _FAILURES as error:
            return [
                fail(check, f"could not be looked at: {one_line(error)}", "Look at the file or disk that it names.")
            ]

    return probe


async def section(title: str, probes: Sequence[Probe]) -> ReportSection:
    """Runs all probes at the same time; returns their findings in the order of the probes."""
    found = await asyncio.gather(*(probe() for probe in probes))
    return ReportSection(title, tuple(finding for findings in found for finding in findings))
