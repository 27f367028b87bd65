"""The servers that an agent polls, as they are now: started, resized and ended while it runs.

Knows plans and pollers.  Must not know where a plan comes from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tentacle.agent.plan import PollPlan
from tentacle.agent.status import CallingServer, Link, Polled
from tentacle.agent.supervisor import keep_running
from tentacle.late_imports import LateModule
from tentacle.records import dataclass
from tentacle.transport.address import Address
from tentacle.transport.calls import Calls
from tentacle.transport.spool import Spool
from tentacle.transport.tapped import Tapping
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity
from tentacle.wire.generations import Generation
from tentacle.wire.polling import PolledCalls

if TYPE_CHECKING:
    from tentacle.transport import poller as halibut_poller
    from tentacle.transport import proxy_logins, proxy_refusals
    from tentacle.transport.http import poller as https_poller
    from tentacle.transport.poller import Poller
    from tentacle.transport.proxy_logins import ProxyLogins
else:  # aiohttp, and what an agent that polls nobody does not need
    halibut_poller = LateModule("tentacle.transport.poller")
    proxy_logins = LateModule("tentacle.transport.proxy_logins")
    proxy_refusals = LateModule("tentacle.transport.proxy_refusals")
    https_poller = LateModule("tentacle.transport.http.poller")


@dataclass(frozen=True)
class PollerParts:
    """What all pollers of an agent share; `home` is the agent's, `requests` gives what carries out the calls
    that are polled by HTTPS."""

    calls: Calls
    spool: Spool
    home: Path
    requests: Callable[[], PolledCalls]

    @cached_property
    def logins(self) -> ProxyLogins:
        """When a proxy may be shown a login."""
        return proxy_logins.ProxyLogins(refusals=proxy_refusals.KeptRefusals(self.home))

    def poller(
        self,
        poll: PollPlan,
        timeouts: Timeouts,
        tapping: Tapping | None,
        identity: TlsIdentity,
        fallback: TlsIdentity | None,
    ) -> Poller:
        """One that polls by Halibut, or by HTTPS where the address says so."""
        options = halibut_poller.PollerOptions(
            poll.address, poll.subscription, poll.connections, timeouts, tapping=tapping
        )
        if options.address.https is None:
            return halibut_poller.Poller(
                identity, self.calls, self.spool, options, fallback=fallback, logins=self.logins
            )
        return https_poller.HttpsPoller(
            identity, self.calls, self.spool, options, self.requests(), fallback=fallback, logins=self.logins
        )


_Key = tuple[Address, str]


class Polling:
    """One poller per server and subscription, made by `make`."""

    def __init__(self, make: Callable[[PollPlan], Poller], polls: Collection[PollPlan]) -> None:
        self._make = make
        self._pollers: dict[_Key, Poller] = {_key(poll): make(poll) for poll in polls}
        self._tasks: dict[Poller, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def pollers(self) -> list[Poller]:
        """Those that are wanted; one that is ending is not among them."""
        return list(self._pollers.values())

    async def run(self) -> None:
        """Polls until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for poller in self.pollers:
                    self._start(poller)
                # An agent that polls nobody may be told to later.
                await asyncio.Event().wait()
        finally:
            self._group = None

    def follow(self, polls: Collection[PollPlan], trusted: Collection[str]) -> None:
        """Makes `polls` what is polled.

        A surplus connection ends after its current call; those to a
        server whose thumbprint is not `trusted` any more are cut.
        """
        wanted = {_key(poll): poll for poll in polls}
        for key in [key for key in self._pollers if key not in wanted]:
            self._end(self._pollers.pop(key), cut=key[0].thumbprint not in trusted)
        for key, poll in wanted.items():
            if key not in self._pollers:
                self._pollers[key] = self._make(poll)
                self._start(self._pollers[key])
            elif self._pollers[key].options.connections != poll.connections:
                self._pollers[key].resize(poll.connections)

    def _start(self, poller: Poller) -> None:
        if self._group is not None:
            task = self._group.create_task(keep_running("Polling", poller.run))
            self._tasks[poller] = task
            task.add_done_callback(lambda _: self._tasks.pop(poller, None))

    def _end(self, poller: Poller, *, cut: bool) -> None:
        poller.resize(0)
        task = self._tasks.get(poller)
        # One without a connection has no call to answer, and may be asleep for minutes.
        if (cut or not poller.connected) and task is not None:
            task.cancel()


def _key(poll: PollPlan) -> _Key:
    return poll.address, poll.subscription


def callers(seen: Mapping[str, Generation]) -> tuple[CallingServer, ...]:
    """What there is to say of the servers that have called, whether they are polled or call by themselves."""
    return tuple(CallingServer(thumbprint, shown.value) for thumbprint, shown in seen.items())


def polled(poller: Poller, shown: Callable[[str], str]) -> Polled:
    """What there is to say of a poller; `shown` masks secrets in the texts of its failures."""
    options = poller.options
    links = tuple(
        Link(number, one.up, one.since, one.error and shown(one.error), one.failed)
        for number, one in poller.links.items()
    )
    address = options.address
    return Polled(address.url, options.subscription, address.thumbprint, options.connections, poller.connected, links)
