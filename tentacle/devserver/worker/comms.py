"""The calling side of the real wire behind `caller.Comms`: dials workers that listen, queues calls for those that poll.

Knows the transport; must not know REST, tasks or storage.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tentacle.devserver.worker.caller import NO_STREAMS, CallFailed, CallResult, Endpoint
from tentacle.errors import TentacleError, one_line
from tentacle.settings.certificates import StoredCertificate
from tentacle.transport.calling import ListeningCaller
from tentacle.transport.dial import Address
from tentacle.transport.errors import CallFailed as NotCalled
from tentacle.transport.exchange import Received
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.queue import PollingQueues
from tentacle.transport.spool import Spool
from tentacle.transport.stream import format_address, limit
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity
from tentacle.wire.events import ResponseEvent
from tentacle.wire.limits import Limits
from tentacle.wire.messages import Request
from tentacle.wire.rules import Role

DEFAULT_PORT = 443


@dataclass(frozen=True)
class CommsOptions:
    """Where workers that poll connect to; `port` 0 lets the system choose."""

    host: str
    port: int
    spool: Path
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)


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
        self._listening = ListeningCaller(identity, self._spool, options.timeouts, options.limits)
        self._polling = PollingQueues(options.timeouts, self._is_subscriber)
        self._trusted: frozenset[str] = frozenset()
        self._subscribers: frozenset[tuple[str, str]] = frozenset()
        accepting = ListenerOptions(
            options.host,
            options.port,
            role=Role.POLLING_CLIENT,
            timeouts=options.timeouts,
            limits=options.limits,
        )
        self._listener = Listener(identity, self._is_trusted, self._polling.serve, self._spool, accepting)
        self._numbers = itertools.count(1)

    @property
    def address(self) -> str:
        return format_address((self._options.host, self._listener.port))

    async def start(self) -> None:
        self._spool.create()
        await self._listener.start()

    async def close(self) -> None:
        await self._listener.aclose()
        await self._listening.aclose()

    def trust(self, endpoints: Collection[Endpoint]) -> None:
        self._trusted = frozenset(e.thumbprint.upper() for e in endpoints if e.polling)
        self._subscribers = frozenset((subscription_of(e), e.thumbprint.upper()) for e in endpoints if e.polling)
        self._listener.drop_untrusted()

    def _is_trusted(self, thumbprint: str) -> bool:
        return thumbprint.upper() in self._trusted

    def _is_subscriber(self, subscription: str, thumbprint: str) -> bool:
        return (subscription, thumbprint.upper()) in self._subscribers

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
        """See `caller.Caller`."""
        request = self._request(endpoint, service, method, params)
        try:
            with ExitStack() as files:
                opened = {name: files.enter_context(path.open("rb")) for name, path in streams.items()}
                async with limit(timeout or self._longest_call, f"the worker's answer to {method}"):
                    received = await self._send(endpoint, request, opened)
        except NotCalled as error:
            raise CallFailed(one_line(error), connected=error.connected) from error
        except (TentacleError, OSError) as error:
            raise CallFailed(one_line(error), connected=True) from error
        return _result(received)

    @property
    def _longest_call(self) -> float:
        """Every step of a call has its own limit; this one is above their sum."""
        times = self._options.timeouts
        return times.polling_queue + times.receive_response + 10 * times.connect + 24 * 3600

    async def _send(self, endpoint: Endpoint, request: Request, files: Mapping[uuid.UUID, Any]) -> Received:
        if endpoint.polling:
            return await self._polling.call(subscription_of(endpoint), request, files)
        return await self._listening.call(address_of(endpoint), request, files)

    def _request(self, endpoint: Endpoint, service: str, method: str, params: list[Any]) -> Request:
        activity = uuid.uuid4()
        name = f"{service}::{method}Async[{next(self._numbers)}] / {activity}"
        return Request(name, service, method, tuple(params), activity, _endpoint_document(endpoint))


def _result(received: Received) -> CallResult:
    """The result with its files, or the worker's error.  Raises `CallFailed`."""
    event = received.event
    if isinstance(event, ResponseEvent) and event.response.error is None:
        return CallResult(event.response.result, received.files)
    received.release()
    error = event.response.error if isinstance(event, ResponseEvent) else None
    if error is None:
        raise CallFailed("The worker answered with something else.", connected=True)
    raise CallFailed(error.message, error.details or "", error.error_type, connected=True)


def subscription_of(endpoint: Endpoint) -> str:
    """`poll://id/` as the queues know it."""
    return f"{endpoint.uri.lower().rstrip('/')}/"


def address_of(endpoint: Endpoint) -> Address:
    parts = urlsplit(endpoint.uri)
    return Address(parts.hostname or "", parts.port or DEFAULT_PORT, endpoint.thumbprint.upper())


def _endpoint_document(endpoint: Endpoint) -> dict[str, Any]:
    """What the original's client says of the endpoint in each request; agents do not read it (halibut.md 3.4)."""
    return {
        "PollingRequestQueueTimeout": "00:02:00",
        "RetryListeningSleepInterval": "00:00:01",
        "RetryCountLimit": 5,
        "ConnectionErrorRetryTimeout": "00:05:00",
        "TcpClientConnectTimeout": "00:01:00",
        "BaseUri": endpoint.uri,
        "RemoteThumbprint": endpoint.thumbprint,
        "Proxy": None,
        "ForceResolveHost": None,
        "IsWebSocketEndpoint": False,
    }
