"""One finding of `doctor`, and how probes are run: side by side, each for so long and no longer.

Must not know what is looked at.
"""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from tentacle.errors import one_line
from tentacle.observe.startup import user_name

T = TypeVar("T")

LIMIT: Final = 5.0
"""Seconds for one step of a probe."""


class Level(enum.StrEnum):
    """How a finding is to be taken.  Only `FAIL` makes the command fail."""

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
class Section:
    """The findings of one patient."""

    title: str
    findings: tuple[Finding, ...]


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, found)


def warn(check: str, found: str, advice: str) -> Finding:
    """Somebody should know."""
    return Finding(check, Level.WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    """This keeps the agent from its work."""
    return Finding(check, Level.FAIL, found, advice)


Probe = Callable[[], Awaitable[Sequence[Finding]]]


async def aside(function: Callable[[], T], limit: float = LIMIT) -> T:
    """The result of a function that may block.  Raises what it raises, and `TimeoutError` after `limit` seconds.

    The thread is a daemon: a resolver or a file system that hangs must not keep the whole command from its end, as
    the event loop's own threads would.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
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
        except (OSError, ValueError, RuntimeError) as error:
            failure = error
        with suppress(RuntimeError):  # Nobody waits any more: the loop is closed.
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wait_for(done, limit)


def blocking(check: str, function: Callable[[], Sequence[Finding]]) -> Probe:
    """A probe out of a function that looks at this machine only."""

    async def probe() -> Sequence[Finding]:
        try:
            return await aside(function)
        except TimeoutError:
            return [
                fail(
                    check,
                    f"no answer from this machine within {LIMIT:g} s",
                    "Look for a disk or a network file system that hangs: mount, dmesg.",
                )
            ]
        except PermissionError as error:
            found = f"{user_name()} may not look at {error.filename or 'it'}"
            return [fail(check, found, "Run this as the user of the agent, or as root.")]
        except (OSError, ValueError, RuntimeError) as error:
            return [
                fail(check, f"could not be looked at: {one_line(error)}", "Look at the file or disk that it names.")
            ]

    return probe


async def section(title: str, probes: Sequence[Probe]) -> Section:
    """Runs all probes at once; their findings come in the order of the probes."""
    found = await asyncio.gather(*(probe() for probe in probes))
    return Section(title, tuple(finding for findings in found for finding in findings))
