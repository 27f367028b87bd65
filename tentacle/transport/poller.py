"""Polling: keeps N connections to a server, dials again when one breaks (docs/spec/wire.md, "Polling service" and
"Reconnect delays").
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from tentacle.counted_log import CountedLog
from tentacle.errors import TentacleError, one_line
from tentacle.late_imports import LateModule
from tentacle.records import dataclass
from tentacle.trace_context import Work, working_for
from tentacle.transport.address import Address
from tentacle.transport.backoff import Backoff
from tentacle.transport.calls import Calls
from tentacle.transport.dial import dial
from tentacle.transport.errors import REASONS, NotWelcome, ProxyLoginRefused, ServerBusy, reason_of
from tentacle.transport.exchange import Exchange
from tentacle.transport.proxy_logins import ProxyLogins
from tentacle.transport.serving import say_end, serve_polling
from tentacle.transport.spool import Spool
from tentacle.transport.tapped import Tapping, tapped
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity
from tentacle.wire.call_context import CallContext
from tentacle.wire.connection import Connection
from tentacle.wire.limits import Limits
from tentacle.wire.rules import Role, State

if TYPE_CHECKING:
    from tentacle.transport import web_socket
else:  # wsproto
    web_socket = LateModule("tentacle.transport.web_socket")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PollerOptions:
    """The server's `address`, our `subscription` (`poll://.../`), and how many `connections` to keep at once."""

    address: Address
    subscription: str
    connections: int = 1
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    tapping: Tapping | None = None


@dataclass(frozen=True)
class PollingLink:
    """One connection of a poller: up or down, since when, and its last failure.  Times are seconds since 1970."""

    up: bool = False
    since: float | None = None
    error: str | None = None
    failed: float | None = None


class Poller:
    """All polling connections to one server.  `run` returns only after `resize(0)`, or when it is cancelled.

    With a `fallback` the server may know us by either of two certificates, while one replaces the other.  When the
    server refuses one, the other is tried at once, and the one that is accepted stays in use.
    """

    def __init__(
        self,
        identity: TlsIdentity,
        calls: Calls,
        spool: Spool,
        options: PollerOptions,
        *,
        fallback: TlsIdentity | None = None,
        make_backoff: Callable[[], Backoff] = lambda: Backoff(time.monotonic, random.Random()),
        logins: ProxyLogins | None = None,
    ) -> None:
        self._group: asyncio.TaskGroup | None = None
        self._loops: dict[int, asyncio.Task[None]] = {}
        self.show(identity, fallback)
        self._calls = calls
        self._spool = spool
        self._options = options
        self._make_backoff = make_backoff
        self._logins = logins or ProxyLogins()
        self._links: dict[int, PollingLink] = {}
        self._identified = asyncio.Event()
        """Set for a moment when a connection has found the server there, for those that sleep."""
        self._told = ""
        """The failure that was told last, unless a connection has been made since."""
        self.reconnects = 0
        """How many connections were made in place of one that was lost."""
        self.failures: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        """How often connections could not be made or broke, by `reason_of`."""
        self._broken = CountedLog()
        """For connections that had been made: a server can take and break them as often as it likes."""
        self._tell_up = self._tell_all = True
        """Whether the next connection that is up, and the last one, is told: once after each failure that was."""
        self._made: set[int] = set()
        """Connections that had been made before they failed."""

    @property
    def links(self) -> dict[int, PollingLink]:
        """The connections that are wanted, by their number from 0 on."""
        return {number: self._links.get(number, PollingLink()) for number in range(self._options.connections)}

    @property
    def connected(self) -> int:
        """How many connections are identified at this moment."""
        return sum(link.up for link in self._links.values())

    @property
    def options(self) -> PollerOptions:
        """Which server this polls, under which subscription, with how many connections."""
        return self._options

    def show(self, identity: TlsIdentity, fallback: TlsIdentity | None = None) -> None:
        """Shows these certificates on new connections; existing connections stay."""
        self._identities = (identity,) if fallback is None else (identity, fallback)
        self._chosen = 0

    def resize(self, connections: int) -> None:
        """Sets the number of connections.  New ones are made at once; surplus ones end after the call they answer."""
        self._options = replace(self._options, connections=connections)
        if self._group is not None:
            self._fill(self._group)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._fill(group)
        finally:
            self._group = None
            self._loops.clear()
            self._broken.aclose()

    def _fill(self, group: asyncio.TaskGroup) -> None:
        for number in range(self._options.connections):
            if number not in self._loops or self._loops[number].done():
                with working_for(Work(server=self._options.address.thumbprint)):
                    self._loops[number] = group.create_task(self._loop(number))

    async def _loop(self, number: int) -> None:
        backoff = self._make_backoff()
        refused = 0
        while number < self._options.connections:
            backoff.attempt()
            tried = self._chosen
            try:
                await self._connection(backoff, number)
                refused = 0
            except (TentacleError, OSError) as error:
                refused = refused + 1 if isinstance(error, NotWelcome) else 0
                if refused and self._try_the_other(tried) and refused % 2:
                    continue
                self.failures[reason_of(error)] += 1
                wait = backoff.wait()
                if isinstance(error, ProxyLoginRefused):
                    wait = max(wait, self._logins.pause)
                if isinstance(error, ServerBusy):
                    wait = max(wait, error.retry_after)
                self._note(number, error=one_line(error), failed=time.time())
                self._tell_failure(number, error, wait)
                await self._pause(wait, backoff)

    async def _pause(self, seconds: float, backoff: Backoff) -> None:
        """Waits, but not to the end when the server is there again for another connection."""
        try:
            async with asyncio.timeout(seconds):
                await self._identified.wait()
        except TimeoutError:
            return
        backoff.success()
        await asyncio.sleep(backoff.wait())

    def _tell_failure(self, number: int, error: TentacleError | OSError, wait: float) -> None:
        """One line a server: what other connections meet too is told by the first one alone, each time that it tries.

        Those that are up while others are not tell nothing, so then each new failure is told.
        """
        text = one_line(error)
        level = logging.ERROR if number == 0 or text != self._told else logging.DEBUG
        self._told = text
        asked, up = self._options.connections, self.connected
        count = f" ({up} of {asked} connections are up)" if asked > 1 else ""
        hint = getattr(error, "hint", None)
        line = f"Polling {self._options.address}: {text}. Trying again in {wait:.1f} seconds{count}"
        line += f" ({hint})" if hint else ""
        if number in self._made:
            self._made.discard(number)
            told = self._broken.tell(level, text, str(self._options.address), line)
        else:
            log.log(level, "%s", line)
            told = level == logging.ERROR
        if told:
            self._tell_up = self._tell_all = True

    def _tell_identified(self) -> None:
        """One line a server: the first connection that is up, and the last one where that was not all."""
        self._told = ""
        asked, up = self._options.connections, self.connected
        level = logging.INFO if up == 1 and self._tell_up else logging.DEBUG
        log.log(level, "Polling %s as %s", self._options.address, self._options.subscription)
        if up == 1:
            self._tell_up = False
        if up == asked > 1 and self._tell_all:
            log.info("Polling %s: all %d connections are up", self._options.address, asked)
            self._tell_all = False

    def _note(self, number: int, **changes: Any) -> None:
        self._links[number] = replace(self._links.get(number, PollingLink()), **changes)

    def _try_the_other(self, tried: int) -> bool:
        """Switches to the other certificate, unless another connection has.  Returns False when there is none."""
        if len(self._identities) < 2:
            return False
        if self._chosen == tried:
            self._chosen = 1 - tried
            log.info(
                "Polling %s: the server does not welcome the certificate %s; trying %s",
                self._options.address,
                self._identities[tried].thumbprint,
                self._identities[self._chosen].thumbprint,
            )
        return True

    async def _connection(self, backoff: Backoff, number: int) -> None:
        identified = False

        def on_identified() -> None:
            nonlocal identified
            identified = True
            self.reconnects += number in self._links and self._links[number].since is not None
            self._made.add(number)
            self._note(number, up=True, since=time.time())
            backoff.success()
            self._identified.set()
            self._identified.clear()
            self._tell_identified()

        try:
            await self._serve(number, on_identified)
        finally:
            if identified:
                self._note(number, up=False, since=time.time())

    async def _serve(self, number: int, on_identified: Callable[[], None]) -> None:
        """Makes a connection and serves it as long as it lasts, or is wanted."""
        options = self._options
        reach = dial if options.address.web_socket is None else web_socket.dial_web_socket
        dialled = await reach(options.address, self._identities[self._chosen], options.timeouts, self._logins)
        context = CallContext(options.address.thumbprint, str(options.address))
        stream = tapped(dialled, options.tapping, "agent", context.address, context.wire)
        connection = Connection(Role.POLLING_SERVICE, options.limits)
        exchange = Exchange(stream, connection, options.timeouts, self._spool, context=context)
        try:
            await serve_polling(
                exchange,
                self._calls,
                options.subscription,
                on_identified,
                wanted=lambda: number < self._options.connections,
            )
        finally:
            if connection.state is State.SEND_NEXT:
                with contextlib.suppress(TentacleError, OSError):
                    await say_end(exchange)
                    if options.address.web_socket is not None:
                        await stream.aclose()
            stream.abort()
