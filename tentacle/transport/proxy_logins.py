"""Credentials that a proxy has refused are tried again, but seldom: wrong ones, tried often, lock the account.

One of these serves all connections of an agent, since several servers may be polled through one proxy.  Must not know
what a proxy is asked for.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from tentacle.transport.errors import ProxyLoginRefused

log = logging.getLogger(__name__)

PAUSE: Final = 600.0
"""Seconds between two attempts with credentials that were refused: three in half an hour, in which locks count them."""
_PATIENCE: Final = 15.0
"""Seconds for which is waited to hear whether another connection was let in; the proxy may just be slow."""


@dataclass
class _Credentials:
    """`again` is when those that were refused may be tried again, by the loop's clock; None while they are not."""

    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    again: float | None = None
    refusal: ProxyLoginRefused | None = None
    """The refusal that is for ever."""


class Refusals(Protocol):
    """What outlives this process: a service that ends and is started again and again would ask once in each life."""

    def left(self, credentials: object) -> float:
        """Seconds until they may be tried again; 0 when nothing speaks against that."""

    def refused(self, credentials: object) -> None:
        """They have been, just now."""


class NotKept:
    """Nothing does."""

    def left(self, credentials: object) -> float:
        return 0.0

    def refused(self, credentials: object) -> None: ...


class ProxyLogins:
    """What is known of credentials, any hashable value of the caller's.

    `pause` is in seconds; with `math.inf`, credentials that were refused are refused again without asking.  `refusals`
    are also those of earlier processes.
    """

    def __init__(self, pause: float = PAUSE, refusals: Refusals | None = None) -> None:
        self.pause = pause
        self._refusals = refusals or NotKept()
        self._known: dict[object, _Credentials] = {}

    @asynccontextmanager
    async def turn(self, credentials: object) -> AsyncIterator[None]:
        """Waits until these credentials may be shown to the proxy; within it they are, once.

        Learns from a `ProxyLoginRefused` that passes through, and from an end without one.  Raises what is for ever.
        """
        known = self._known.get(credentials) or self._recall(credentials)
        held, asked = await self._wait(known), False
        try:
            if known.refusal is not None:
                raise known.refusal
            asked = True
            yield
            known.again = None
        except ProxyLoginRefused as refusal:
            if math.isinf(self.pause):
                known.refusal = refusal
            else:
                known.again = asyncio.get_running_loop().time() + self.pause
            if asked:
                self._refusals.refused(credentials)
            raise
        finally:
            if held:
                known.one_at_a_time.release()

    def _recall(self, credentials: object) -> _Credentials:
        known = self._known[credentials] = _Credentials()
        if left := self._refusals.left(credentials):
            if math.isinf(self.pause):
                known.refusal = ProxyLoginRefused(
                    "the proxy has refused this login before, so it was not asked again: it may be tried again in "
                    f"{math.ceil(left / 60)} minute(s), another one at once"
                )
            else:
                known.again = asyncio.get_running_loop().time() + left
                log.warning(
                    "The proxy has refused this login before this agent was started: it is tried again in %d minutes, "
                    "so that no account is locked; another login is tried at once",
                    math.ceil(left / 60),
                )
        return known

    async def _wait(self, known: _Credentials) -> bool:
        """Returns whether the lock is held."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await known.one_at_a_time.acquire()
            held = True
        except TimeoutError:
            held = False
        clock = asyncio.get_running_loop().time
        try:
            while known.again is not None and (left := known.again - clock()) > 0:  # noqa: ASYNC110 - it may move
                await asyncio.sleep(left)
            if known.again is not None:
                # Whatever becomes of this attempt, the next one is far away.
                known.again = clock() + self.pause
        except asyncio.CancelledError:
            if held:
                known.one_at_a_time.release()
            raise
        return held
