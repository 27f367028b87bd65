"""A budget for long messages, over all connections: for those that arrive, and for those that nobody takes.

A message that arrives pays before more of it is unfolded or read.  When the budget is spent, it waits, and its
connection is not read meanwhile.  So that not all wait for each other, one message at a time may go beyond the budget,
the oldest one that is still growing.  It does not count until it has been answered, so that one that is huge keeps
nobody else waiting but another that is.  A peer that keeps others waiting by being slow is given up.  No other messages
of a peer take more than three quarters of the budget, so that one peer cannot spend all of it.

A message that is sent is there already and cannot wait: who is waited for longest is given up instead.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

from tentacle.wire.limits import MIB

FREE = 64 * 1024
"""Bytes that a message may take without paying: all but a few need no more."""
_TOTAL = 128 * MIB
_LOOK_EVERY = 1.0
_SLOW = 10.0
"""Seconds for which a peer may be waited for while others wait for memory."""


class Holder(Protocol):
    """A connection on which a long message comes or goes."""

    waiting_since: float | None
    """Since when its peer has not done enough, by the loop's clock; `None` while it is our turn."""

    def give_up(self) -> None:
        """Ends the connection.  May be repeated."""


class Memory:
    """The budget, in bytes.  All of it is used in one event loop."""

    def __init__(self, total: int = _TOTAL, slow: float = _SLOW) -> None:
        self._total = total
        self._most_per_peer = total * 3 // 4
        self._slow = slow
        self._shares: dict[MemoryShare, None] = {}
        """In the order in which they came."""
        self._held = 0
        self._by_peer: Counter[str] = Counter()
        self._beyond: MemoryShare | None = None
        """The message that has gone beyond the budget, if there is one."""
        self._given_back = asyncio.Event()

    @property
    def held(self) -> int:
        return self._held

    def share(self, peer: str, holder: Holder) -> MemoryShare:
        """For one message from or to `peer`.  It must be released at the end."""
        return MemoryShare(self, peer, holder)

    async def _grow(self, share: MemoryShare, size: int) -> None:
        self._shares.setdefault(share)
        while not self._may_grow(share, size - share.held):
            try:
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._given_back.wait()
            except TimeoutError:
                self._give_up_longest(self._slow)
        self._take(share, size)

    def _may_grow(self, share: MemoryShare, more: int) -> bool:
        if self._held <= self._total:
            self._beyond = None
        if share is self._beyond:
            return True
        if self._counted() + more <= self._total and self._counted(share.peer) + more <= self._most_per_peer:
            return True
        if self._beyond is None and share is next(other for other in self._shares if other.growing):
            self._beyond = share
        return share is self._beyond

    def _counted(self, peer: str | None = None) -> int:
        """What has been spent, by all or by one peer, without the message that has gone beyond."""
        held = self._held if peer is None else self._by_peer[peer]
        return held - self._beyond.held if self._beyond and peer in (None, self._beyond.peer) else held

    def _take(self, share: MemoryShare, size: int) -> None:
        self._shares.setdefault(share)
        self._held += size - share.held
        self._by_peer[share.peer] += size - share.held
        share.held = size

    def _give_up_longest(self, at_least: float) -> bool:
        """Gives up the connection whose peer is waited for longest, when it is for `at_least` so many seconds."""
        before = asyncio.get_running_loop().time() - at_least
        waiting = [
            (since, number, share)
            for number, share in enumerate(self._shares)
            if share.held and (since := share.holder.waiting_since) is not None and since <= before
        ]
        if not waiting:
            return False
        share = min(waiting)[-1]
        share.holder.give_up()
        # The connection ends in one of the loop's next turns.
        self._release(share)
        return True

    def _settle(self, share: MemoryShare) -> None:
        share.growing = False
        if share in self._shares:
            self._wake()

    def _take_anyway(self, share: MemoryShare, size: int) -> None:
        share.growing = False
        self._take(share, size)
        while self._counted() > self._total and self._give_up_longest(0):
            continue

    def _release(self, share: MemoryShare) -> None:
        if share not in self._shares:
            return
        self._take(share, 0)
        del self._shares[share]
        if share is self._beyond:
            self._beyond = None
        if not self._by_peer[share.peer]:
            del self._by_peer[share.peer]
        self._wake()

    def _wake(self) -> None:
        self._given_back.set()
        self._given_back = asyncio.Event()


class MemoryShare:
    """What one message has taken."""

    def __init__(self, memory: Memory, peer: str, holder: Holder) -> None:
        self._memory = memory
        self.peer = peer
        self.holder = holder
        self.held = 0
        self.growing = True
        """Whether it may still need more."""

    async def grow(self, size: int) -> None:
        """Waits until the message may take `size` bytes in all."""
        await self._memory._grow(self, size)

    def settle(self) -> None:
        """It needs no more than it has."""
        self._memory._settle(self)

    def take(self, size: int) -> None:
        """For `size` bytes that are there already; gives up connections when there are too many."""
        self._memory._take_anyway(self, size)

    def release(self) -> None:
        """Gives everything back.  May be repeated."""
        self._memory._release(self)


EVERYBODY = Memory()
"""The budget of this process."""
