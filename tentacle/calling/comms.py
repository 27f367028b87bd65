"""`caller.Comms` on the real wire: dials workers that listen, queues calls for workers that poll.

Knows the transport; must not know REST, tasks or storage.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tentacle.calling.caller import NO_STREAMS, CallResult, ConnectionLimits, Endpoint, WorkerCallFailed
from tentacle.calling.https_polling import AGENTS, HttpsPolling
from tentacle.contracts.timespan import format_timespan
from tentacle.errors import TentacleError, one_line
from tentacle.records import dataclass
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport.address import Address
from tentacle.transport.calling import POOL_SIZE, ListeningCaller
from tentacle.transport.errors import CallFailed
from tentacle.transport.http.service import HttpService
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.queue import PollingQueues
from tentacle.transport.spool import Spool
from tentacle.transport.stream import format_address, limit
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity
from tentacle.wire.events import ResponseEvent
from tentacle.wire.limits import ANSWERS, Limits
from tentacle.wire.messages import Request
from tentacle.wire.rules import Role

DEFAULT_PORT = 443
WEB_SOCKET = "/OctopusComms"
"""Where the original's documentation has it; on the port for polling workers, where all else is Halibut itself."""


@dataclass(frozen=True)
class CommsOptions:
    """The address that polling workers connect to; with `port` 0 the system chooses one.

    To each listening worker, up to `most_idle` connections are kept for the next call.  `polling_address` is where
    workers poll by HTTPS through a proxy that ends TLS.
    """

    host: str
    port: int
    spool: Path
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = ANSWERS
    most_idle: int = POOL_SIZE
    polling_address: str | None = None


async def start_comms(certificate: StoredCertificate, options: CommsOptions) -> HalibutComms:
    """The calling side, accepting connections.  Raises `TentacleError` when the address cannot be used."""
    comms = HalibutComms(TlsIdentity(certificate.certificate_pem, certificate.key_pem), options)
    await comms.start()
    return comms


class HalibutComms:
    """Calls workers by Halibut, whichever side opened the connection."""

    def __init__(self, identity: TlsIdentity, options: CommsOptions) -> None:
        self._options = options
        self._spool = Spool(options.spool)
        self._listening = ListeningCaller(
            identity, self._spool, options.timeouts, options.limits, most_idle=options.most_idle
        )
        # Each worker that polls, as its subscription and its thumbprint in capital letters.
        self._subscribers: frozenset[tuple[str, str]] = frozenset()
        self._polling = PollingQueues(options.timeouts, self._may_poll)
        accepting = ListenerOptions(
            options.host,
            options.port,
            role=Role.POLLING_CLIENT,
            timeouts=options.timeouts,
            limits=options.limits,
            web_socket=WEB_SOCKET,
        )
        self.https = HttpsPolling(
            self._polling, self._spool, options.timeouts, self._may_poll, lambda: self.polling_addresses
        )
        self.answer_stranger = self.https.answer_stranger
        http = HttpService(self.https.answer, hidden=AGENTS)
        self._listener = Listener(identity, self._is_trusted, self._polling.serve, self._spool, accepting, http)
        self._numbers = itertools.count(1)

    @property
    def address(self) -> str:
        return format_address((self._options.host, self._listener.port))

    @property
    def connected(self) -> int:
        """How many connections of workers that poll there are."""
        return self._listener.connected[0]

    @property
    def polling_addresses(self) -> tuple[str, ...]:
        """Where workers poll by HTTPS, the address for people and documents first."""
        own = f"https://{self.address}"
        return (own,) if self._options.polling_address is None else (self._options.polling_address, own)

    async def start(self) -> None:
        self._spool.create()
        await self._listener.start()

    async def close(self) -> None:
        await self._listener.aclose()
        self.https.aclose()
        await self._listening.aclose()

    def trust(self, endpoints: Collection[Endpoint]) -> None:
        self._subscribers = frozenset((subscription_of(e), e.thumbprint.upper()) for e in endpoints if e.polling)
        self._listener.drop_untrusted()

    def _may_poll(self, subscription: str, thumbprint: str) -> bool:
        return (subscription, thumbprint.upper()) in self._subscribers

    def _is_for(self, endpoint: Endpoint, thumbprint: str) -> bool:
        """Two may be registered with one subscription, and each has calls of its own.  Whoever has changed its
        certificate meanwhile goes on with those of the old one.
        """
        gone = not self._may_poll(subscription_of(endpoint), endpoint.thumbprint)
        return gone or endpoint.thumbprint.upper() == thumbprint.upper()

    def _is_trusted(self, thumbprint: str) -> bool:
        return thumbprint.upper() in {known for _, known in self._subscribers}

    async def call(
        self,
        endpoint: Endpoint,
        service: str,
        method: str,
        params: list[Any],
        *,
        streams: Mapping[uuid.UUID, Path] = NO_STREAMS,
        timeout: float | None = None,
    ) -> CallResult:
        """See `caller.WorkerCaller`."""
        activity = uuid.uuid4()
        name = f"{service}::{method}Async[{next(self._numbers)}] / {activity}"
        request = Request(name, service, method, tuple(params), activity, endpoint_document(endpoint))
        times = _timeouts(self._options.timeouts, endpoint.limits)
        if endpoint.polling and endpoint.limits is not None:
            longest = endpoint.limits.queue + endpoint.limits.processing
        else:
            # Every step of a call has its own limit; this one is above their sum.
            longest = times.polling_queue + times.receive_response + 10 * times.connect + 24 * 3600
        try:
            with ExitStack() as files:
                opened = {name: files.enter_context(path.open("rb")) for name, path in streams.items()}
                async with limit(timeout or longest, f"the worker's answer to {method}"):
                    if endpoint.polling:
                        is_for = partial(self._is_for, endpoint)
                        received = await self._polling.call(
                            subscription_of(endpoint), request, opened, times.polling_queue, is_for
                        )
                    else:
                        received = await self._listening.call(address_of(endpoint), request, opened, times)
        except CallFailed as error:
            raise WorkerCallFailed(one_line(error), connected=error.connected) from error
        except (TentacleError, OSError) as error:
            raise WorkerCallFailed(one_line(error), connected=True) from error
        event = received.event
        if not isinstance(event, ResponseEvent):
            received.release()
            raise WorkerCallFailed("The worker answered with something else.", connected=True)
        failure = event.response.error
        if failure is not None:
            received.release()
            raise WorkerCallFailed(failure.message, failure.details or "", failure.error_type, connected=True)
        return CallResult(event.response.result, received.files)


def subscription_of(endpoint: Endpoint) -> str:
    """Returns `poll://id/` as the queues know it."""
    return f"{endpoint.uri.lower().rstrip('/')}/"


def address_of(endpoint: Endpoint) -> Address:
    parts = urlsplit(endpoint.uri)
    return Address(parts.hostname or "", parts.port or DEFAULT_PORT, endpoint.thumbprint.upper())


def _timeouts(times: Timeouts, limits: ConnectionLimits | None) -> Timeouts:
    if limits is None:
        return times
    return replace(
        times,
        polling_queue=limits.queue,
        connect=limits.connect,
        connect_attempts=limits.attempts,
        retry_interval=limits.pause,
        connect_trying=limits.trying,
    )


def endpoint_document(endpoint: Endpoint) -> dict[str, Any]:
    """What the original's client says of an endpoint in each request; agents do not read it (docs/spec/wire.md,
    "Request endpoint").
    """
    limits = endpoint.limits or ConnectionLimits()
    queue, pause, trying, connect = (
        format_timespan(timedelta(seconds=each)) for each in (limits.queue, limits.pause, limits.trying, limits.connect)
    )
    asked = {"PollingRequestQueueTimeout": queue, "RetryListeningSleepInterval": pause}
    dialled = {"ConnectionErrorRetryTimeout": trying, "TcpClientConnectTimeout": connect}
    where = {"BaseUri": endpoint.uri, "RemoteThumbprint": endpoint.thumbprint, "Proxy": None, "ForceResolveHost": None}
    return {**asked, "RetryCountLimit": limits.attempts, **dialled, **where, "IsWebSocketEndpoint": False}
