"""Our requests to a server that is polled by HTTPS (docs/spec/https.md, "Polling"): what is sent, and what its answers
mean.

aiohttp speaks HTTP, over connections that this room makes: dialled as for Halibut, through the same proxies, to the
same thumbprint.  What a request of the server asks for is not known here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from tentacle.errors import one_line
from tentacle.records import dataclass
from tentacle.transport.address import Address
from tentacle.transport.dial import dial
from tentacle.transport.errors import ConnectFailed, Disconnected, NotWelcome, ServerBusy, TimedOut
from tentacle.transport.http.tls_transport import TlsTransport
from tentacle.transport.http.tokens import LEEWAY, audience_of, make_token
from tentacle.transport.proxy_logins import ProxyLogins
from tentacle.transport.stream import ByteStream, limit, piece_size
from tentacle.transport.tapped import Tapping, Versioned, tapped
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsIdentity
from tentacle.transport.vouched_tls import dial_vouched
from tentacle.wire.call_context import Wire
from tentacle.wire.errors import ProtocolError
from tentacle.wire.http import API_VERSION, Readable
from tentacle.wire.limits import MIB
from tentacle.wire.polling import subscription_name

MOST_BYTES: Final = 16 * MIB
"""Of the requests in one answer."""
_LINE, _FIELDS = 8190, 128
_WHOLE_SECONDS: Final = 300.0
"""For all of an answer but a data stream, once it has begun."""
_SLOWEST: Final = 16 * 1024
"""Bytes of a data stream that have to be taken in a second, over all of it."""
_LONGEST_PAUSE: Final = 600.0
_MOST_DETAIL: Final = 4096


@dataclass(frozen=True)
class Fetched:
    """Requests as the server has sent them, at `date` (as in HTTP)."""

    document: bytes
    date: str | None


class _Connector(aiohttp.BaseConnector):
    """Makes aiohttp's connections; `aclose` ends them."""

    def __init__(self, connect: Callable[[], Awaitable[ByteStream]], timeouts: Timeouts) -> None:
        super().__init__(keepalive_timeout=timeouts.pooled, limit=0)
        self._connect = connect
        self._timeouts = timeouts
        self._carried: set[asyncio.Task[None]] = set()

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:
        stream = await self._connect()
        protocol: ResponseHandler = self._factory()
        task = asyncio.create_task(_carry(stream, protocol, self._timeouts.send))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)
        # The task's first step gives the protocol its transport.
        await asyncio.sleep(0)
        return protocol

    async def aclose(self) -> None:
        for task in self._carried:
            task.cancel()
        await asyncio.gather(*self._carried, return_exceptions=True)


async def _carry(stream: ByteStream, protocol: ResponseHandler, send_timeout: float) -> None:
    try:
        await TlsTransport(stream, protocol, send_timeout).run(b"")
    finally:
        stream.abort()


class PollingClient:
    """The requests of one connection, one at a time.  `aclose` ends it."""

    def __init__(
        self,
        address: Address,
        subscription: str,
        identity: TlsIdentity,
        timeouts: Timeouts,
        logins: ProxyLogins,
        tapping: Tapping | None = None,
    ) -> None:
        self._address, self._subscription = address, subscription
        self._identity, self._timeouts = identity, timeouts
        self._base = f"{address.url.rstrip('/')}/agents/{subscription_name(subscription)}"

        async def connect() -> ByteStream:
            dialled: Versioned
            if address.ca_file is not None:
                dialled = await dial_vouched(address, address.ca_file, timeouts, logins)
            else:
                dialled = await dial(address, identity, timeouts, logins)
            return tapped(dialled, tapping, "agent", str(address), Wire.HTTPS)

        self._connector = _Connector(connect, timeouts)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Tentacle-Api": API_VERSION, "Accept-Encoding": "identity", "User-Agent": "Tentacle"},
            timeout=aiohttp.ClientTimeout(),
            auto_decompress=False,
            max_line_size=_LINE,
            max_field_size=_LINE,
            max_headers=_FIELDS,
        )

    async def aclose(self) -> None:
        await self._session.close()
        await self._connector.aclose()

    async def next(self, most: int, holding: Collection[str], *, at_once: bool) -> Fetched | None:
        """Waits for requests; `None` where there are none, `at_once` as soon as that is known.

        `holding` are ids that need not be sent again.  Raises `TentacleError` or `OSError`, as all of this does.
        """
        body = json.dumps({"max": most, "holding": sorted(holding)}).encode()
        headers = {"Content-Type": "application/json", **({"Prefer": "wait=0"} if at_once else {})}
        async with self._request("POST", "next", headers, body, wait=self._timeouts.polling_request) as response:
            if response.status == 204:
                return None
            if response.status != 200:
                raise await self._failure(response)
            return Fetched(await self._whole(response, MOST_BYTES), response.headers.get("Date"))

    async def reply(self, identity: str, body: bytes) -> bool:
        """Sends a JSON-RPC response; false where the server does not wait for it any more."""
        headers = {"Content-Type": "application/json"}
        patience = self._timeouts.receive_response
        async with self._request("POST", f"replies/{identity}", headers, body, wait=patience) as response:
            if response.status not in (200, 204, 404):
                raise await self._failure(response)
            return response.status != 404

    async def fetch(self, identity: str) -> AsyncIterator[bytes]:
        """The bytes of a stream in pieces.  Raises `KeyError` where the server has none."""
        async with self._request("GET", f"streams/{identity}", {}) as response:
            if response.status == 404:
                raise KeyError(identity)
            if response.status != 200:
                raise await self._failure(response)
            while piece := await self._piece(response):
                yield piece

    async def send(self, identity: str, file: Readable, length: int) -> None:
        """Sends the bytes of a stream."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        body = _pieces(file, length)
        patience = self._timeouts.receive_response + length / _SLOWEST
        async with self._request("POST", f"streams/{identity}", headers, body, wait=patience) as response:
            if response.status == 404:
                raise ProtocolError("the server takes no stream")
            if response.status not in (200, 201, 204):
                raise await self._failure(response)

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, headers: dict[str, str], body: Any = None, *, wait: float = 60.0
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; the head of its answer has to come within `wait` seconds."""
        url = URL(f"{self._base}/{path}", encoded=True)
        if self._address.ca_file is not None:
            token = await asyncio.to_thread(make_token, self._identity, self._address.url, self._subscription)
            headers = {**headers, "Authorization": f"Bearer {token}"}
        try:
            sending = self._session.request(method, url, data=body, headers=headers, allow_redirects=False)
            async with limit(wait, f"the answer of {self._address}"):
                response = await sending
            async with response:
                yield response
        except aiohttp.ClientError as error:
            raise Disconnected(f"the connection to {self._address} failed: {one_line(error)}") from error

    async def _piece(self, response: aiohttp.ClientResponse) -> bytes:
        async with limit(self._timeouts.receive, f"more of an answer of {self._address}"):
            return await response.content.readany()

    async def _whole(self, response: aiohttp.ClientResponse, most: int) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ProtocolError("the server has packed its answer, which it was not asked for")
        pieces, size = [], 0
        async with limit(_WHOLE_SECONDS, f"the end of an answer of {self._address}"):
            while piece := await self._piece(response):
                size += len(piece)
                if size > most:
                    raise ProtocolError(f"the server has sent more than {most} bytes in one answer")
                pieces.append(piece)
        return b"".join(pieces)

    async def _failure(self, response: aiohttp.ClientResponse) -> Exception:
        """What an answer means that is none of those that are wanted (docs/spec/https.md, "What the agent makes of
        answers").
        """
        status, where = response.status, self._address
        if 300 <= status < 400:
            return ConnectFailed(
                f"{where} sends its callers elsewhere ({status}, to {_origin(response.headers.get('Location', ''))}), "
                "and that is not followed",
                hint="give the address at which the server itself is polled: Tentacle poll-server --https",
            )
        detail = await self._detail(response)
        if status == 401:
            return NotWelcome(
                f"the server does not accept who this agent says it is (401{detail})", hint=_clock(response)
            )
        if status == 403:
            return NotWelcome(
                f"the server does not let this agent poll as {self._subscription} (403{detail})",
                hint="is this machine registered there with the thumbprint that 'Tentacle show-thumbprint' shows, and "
                "with this subscription?",
            )
        if status == 404:
            return ConnectFailed(
                f"at {where} nobody is polled by HTTPS (404{detail})", hint="check the address, and its path"
            )
        if status == 429 or status >= 500:
            return ServerBusy(f"the server cannot answer now ({status}{detail})", _patience(response))
        return ProtocolError(f"the server has answered with the status {status}{detail}")

    async def _detail(self, response: aiohttp.ClientResponse) -> str:
        """The `detail` of a problem document, as text behind the status."""
        with suppress(ValueError, AttributeError, RecursionError, TimedOut, ProtocolError, aiohttp.ClientError):
            if response.content_type == "application/problem+json":
                detail = json.loads(await self._whole(response, _MOST_DETAIL)).get("detail")
                text = "".join(c if c.isprintable() else "?" for c in detail[:300]) if isinstance(detail, str) else ""
                return f": {text}" if text else ""
        return ""


def _origin(location: str) -> str:
    """As much of a redirect's target as may be shown."""
    try:
        parts = urlsplit(location)
        return audience_of(f"{parts.scheme}://{parts.hostname}") if parts.hostname else "another path"
    except ValueError:
        return "an address that is none"


def _clock(response: aiohttp.ClientResponse) -> str:
    """What to do about a refusal; clocks that differ are the likeliest reason."""
    with suppress(KeyError, ValueError, TypeError):
        ahead = (datetime.now(UTC) - parsedate_to_datetime(response.headers["Date"])).total_seconds()
        if abs(ahead) > LEEWAY:
            which = "ahead of" if ahead > 0 else "behind"
            return f"this machine's clock is {abs(ahead):.0f} seconds {which} the server's: set it right"
    return "is this machine registered there with the thumbprint that 'Tentacle show-thumbprint' shows?"


def _patience(response: aiohttp.ClientResponse) -> float:
    """Seconds that `Retry-After` asks for."""
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_PAUSE) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 0.0


async def _pieces(file: Readable, length: int) -> AsyncIterator[bytes]:
    await asyncio.to_thread(file.seek, 0)
    while length and (data := await asyncio.to_thread(file.read, min(length, piece_size()))):
        length -= len(data)
        yield data
