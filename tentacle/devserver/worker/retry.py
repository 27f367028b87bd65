"""When a call is made again, and how long to wait between two looks at a script (tentacle-services.md 2.4, 2.5).

Knows failures and time; must not know what a call is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from tentacle.devserver.worker.caller import CallFailed
from tentacle.devserver.worker.waiting import Time

T = TypeVar("T")

INVOCATION: Final = "System.Reflection.TargetInvocationException: Exception has been thrown by the target"
"""How the details of an error begin that a service itself raised; such a call is not made again."""

SHUTTING_DOWN: Final = "The Tentacle service is shutting down and cannot process this request."
_LOCAL_FAULTS: Final = ("MethodNotFoundHalibutClientException", "AmbiguousMethodMatchHalibutClientException")


@dataclass(frozen=True)
class RetryPolicy:
    """For `duration` seconds after the first attempt began; no retries when not `enabled`."""

    enabled: bool = True
    duration: float = 150.0


@dataclass(frozen=True)
class Backoff:
    """Seconds before the n-th look, n from 1: `first * base ** n`, at most `limit`, in whole milliseconds."""

    base: float = 1.15
    first: float = 0.3
    limit: float = 5.0

    def delay(self, number: int) -> float:
        # The power of a large number would overflow long after the limit is reached.
        return min(self.limit, round(self.first * self.base ** min(number, 200), 3))


LISTENING: Final = Backoff(1.15)
POLLING: Final = Backoff(1.4)


def is_missing_service(failure: CallFailed) -> bool:
    """Whether the worker answered that it has no such service: it is too old to have it (2.2)."""
    text = f"{failure.message}\n{failure.details}"
    if "CreateService(" in text and SHUTTING_DOWN not in text and "ObjectDisposedException" not in text:
        return True
    marks = ("Octopus.Tentacle.Communications.UnknownServiceNameException", "NotRegistered", "ICapabilitiesServiceV2")
    missing_method = any(fault in (failure.error_type or "") for fault in _LOCAL_FAULTS)
    return missing_method or any(mark in text for mark in marks)


def may_retry(failure: CallFailed) -> bool:
    """Whether another attempt can have another outcome."""
    if SHUTTING_DOWN in f"{failure.message}\n{failure.details}":
        return True
    return not (failure.details.startswith(INVOCATION) or is_missing_service(failure))


Report = Callable[[str], Awaitable[None]]
"""Takes one line for the task log."""


async def with_retries(attempt: Callable[[], Awaitable[T]], policy: RetryPolicy, time: Time, report: Report) -> T:
    """The result of the first attempt that has one.  Raises the last attempt's `CallFailed`.

    The first attempt has all the time that its call has; later ones, and the sleeps before them, end with the
    policy's duration.
    """
    began, number = time.now(), 0
    try:
        return await attempt()
    except CallFailed as failure:
        last = failure
    while policy.enabled and may_retry(last):
        number += 1
        delay, left = min(number, 10), policy.duration - (time.now() - began)
        if left - delay <= 1:
            await report(f"Could not communicate with Tentacle after {policy.duration:.0f} seconds.")
            break
        await report(
            f"An error occurred communicating with Tentacle: {last.message} The call will be retried after {delay} "
            f"seconds. Retry attempt {number}. Retries will be performed for up to {policy.duration:.0f} seconds."
        )
        await time.sleep(delay)
        try:
            async with asyncio.timeout(max(1.0, left - delay)):
                return await attempt()
        except CallFailed as failure:
            last = failure
        except TimeoutError:
            last = CallFailed("The worker did not answer in the time that was left for retries.", connected=True)
    raise last
