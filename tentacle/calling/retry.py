"""Time that is handed in, waiting for one thing or for another, and which failed calls are made again, when, and for
how long (docs/spec/services.md, "How a server conducts a script" and "Retries by the server").

Knows failures and time; must not know what a call is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tentacle.calling.caller import WorkerCallFailed
from tentacle.records import dataclass

T = TypeVar("T")

INVOCATION: Final = "System.Reflection.TargetInvocationException: Exception has been thrown by the target"
"""The details of an error that a service itself raised begin so; such a call is not made again."""

SHUTTING_DOWN: Final = "The Tentacle service is shutting down and cannot process this request."
_LOCAL_FAULTS: Final = ("MethodNotFoundHalibutClientException", "AmbiguousMethodMatchHalibutClientException")


@dataclass(frozen=True)
class Time:
    """A clock in seconds that never goes back, and sleep."""

    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


async def ends_before(work: asyncio.Future[T], cancel: asyncio.Event) -> bool:
    """Returns whether `work` ends before `cancel` is set; if not, cancels `work` and waits until it has ended.

    Cancelling the caller cancels `work` too.
    """
    waiting = asyncio.ensure_future(cancel.wait())
    try:
        await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        waiting.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))
            if not work.cancelled():
                work.exception()


@dataclass(frozen=True)
class StatusInterval:
    """Seconds before the n-th look at a script, n from 1: `first * base ** n`, at most `limit`, in milliseconds."""

    base: float = 1.15
    first: float = 0.3
    limit: float = 5.0

    def before(self, number: int) -> float:
        # The power of a large number would overflow long after the limit is reached.
        return min(self.limit, round(self.first * self.base ** min(number, 200), 3))


LISTENING: Final = StatusInterval(1.15)
POLLING: Final = StatusInterval(1.4)


@dataclass(frozen=True)
class RetryPolicy:
    """Calls are made again for `duration` seconds after the first attempt began, or not at all unless `enabled`."""

    enabled: bool = True
    duration: float = 150.0


def is_missing_service(failure: WorkerCallFailed) -> bool:
    """Returns whether the worker answered that it has no such service: it is too old to have it (docs/spec/services.md,
    "Fallback without capabilities").
    """
    text = f"{failure.message}\n{failure.details}"
    if "CreateService(" in text and SHUTTING_DOWN not in text and "ObjectDisposedException" not in text:
        return True
    marks = ("Octopus.Tentacle.Communications.UnknownServiceNameException", "NotRegistered", "ICapabilitiesServiceV2")
    missing_method = any(fault in (failure.error_type or "") for fault in _LOCAL_FAULTS)
    return missing_method or any(mark in text for mark in marks)


def may_retry(failure: WorkerCallFailed) -> bool:
    """Returns whether another attempt can have another outcome."""
    if SHUTTING_DOWN in f"{failure.message}\n{failure.details}":
        return True
    return not (failure.final or failure.details.startswith(INVOCATION) or is_missing_service(failure))


Report = Callable[[str], Awaitable[None]]
"""Takes one line for the task log."""


@dataclass(frozen=True)
class CallRetries:
    """Repeats failed calls by a policy; each retry is reported."""

    policy: RetryPolicy
    time: Time
    report: Report

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Returns the result of the first attempt that has one.  Raises the last attempt's `WorkerCallFailed`.

        The first attempt has all the time that its call has; later ones, and the sleeps before them, end with the
        policy's duration.
        """
        began, number, duration = self.time.now(), 0, self.policy.duration
        limit: float | None = None
        while True:
            try:
                async with asyncio.timeout(limit):
                    return await attempt()
            except WorkerCallFailed as failure:
                last = failure
            except TimeoutError:
                last = WorkerCallFailed(
                    "The worker did not answer in the time that was left for retries.", connected=True
                )
            if not (self.policy.enabled and may_retry(last)):
                raise last
            number += 1
            delay, left = min(number, 10), duration - (self.time.now() - began)
            if left - delay <= 1:
                await self.report(f"Could not communicate with Tentacle after {duration:.0f} seconds.")
                raise last
            await self.report(
                f"An error occurred communicating with Tentacle: {last.message.rstrip('.')}. The call will be retried "
                f"after {delay} seconds. Retry attempt {number}. Retries will be performed for up to {duration:.0f} "
                "seconds."
            )
            await self.time.sleep(delay)
            limit = max(1.0, left - delay)
