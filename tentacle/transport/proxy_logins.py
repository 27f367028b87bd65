"""Credentials that a proxy has refused are tried again, but seldom: wrong ones, tried often, lock the account.

One of these serves all connections of an agent, since several servers may be polled through one proxy.  Must not know
what a proxy is asked for.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from tentacle.transport.errors import ProxyLoginRefused

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


class ProxyLogins:
    """What is known of credentials, any hashable value of the caller's.

    `pause` is in seconds; with `math.inf`, credentials that were refused are refused again without asking.
    """

    def __init__(self, pause: float = PAUSE) -> None:
        self.pause = pause
        self._known: dict[object, _Credentials] = {}

    @asynccontextmanager
    async def turn(self, credentials: object) -> AsyncIterator[None]:
        """Waits until these credentials may be shown to the proxy; within it they are, once.

        Learns from a `ProxyLoginRefused` that passes through, and from an end without one.  Raises what is for ever.
        """
        known = self._known.setdefault(credentials, _Credentials())
        held = await self._wait(known)
        try:
            if known.refusal is not None:
                raise known.refusal
            yield
            known.again = None
        except ProxyLoginRefused as refusal:
            if math.isinf(self.pause):
                known.refusal = refusal
            else:
                known.again = asyncio.get_running_loop().time() + self.pause
            raise
        finally:
            if held:
                known.one_at_a_time.release()

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
