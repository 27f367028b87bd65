"""One HTTP request and its answer, bounded in time and size.

Knows aiohttp, TLS and proxies, and turns their failures into ours.  Knows nothing of retrying, of JSON, or of what the
server means.  Headers that carry credentials come with each request and are not kept here, so that the look at a
refused certificate goes without them.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Self

import aiohttp
from yarl import URL

from tentacle import __version__
from tentacle.errors import one_line
from tentacle.octopus.certificates import AcceptingContext, PinnedContext, subject_of, verifying_context
from tentacle.octopus.errors import (
    CertificateRefused,
    ConnectionFailed,
    NameUnresolved,
    NotAnOctopusServer,
    NoTls,
    OctopusError,
    ProxyRefused,
    is_tls_nonsense,
    network_reason,
)
from tentacle.octopus.proxies import ProxyUrl, environment_proxy
from tentacle.records import dataclass
from tentacle.thumbprints import thumbprint_of
from tentacle.wire.connect import FINAL_REFUSALS

MAX_BODY = 32 * 1024 * 1024
"""Bytes of the longest answer that is read, after decompression."""
REQUEST_SECONDS = 100.0
"""That of .NET's client, for one whole request."""
CONNECT_SECONDS = 20.0
_CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError)


@dataclass(frozen=True)
class HttpResponse:
    """An answer: `headers` in lower case, the whole `body`."""

    status: int
    url: URL
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class HttpOptions:
    """How the server is reached.

    `timeout` is in seconds, for one whole request; `pin` is the thumbprint of the only certificate that is accepted;
    `trust_env` lets the environment name a proxy where `proxy` is None.
    """

    ignore_ssl_errors: bool = False
    ca_file: str | None = None
    proxy: ProxyUrl | None = None
    trust_env: bool = False
    timeout: float = REQUEST_SECONDS
    pin: str | None = None

    def tls_context(self) -> ssl.SSLContext:
        """Raises `InvalidAddress` for a file of certificates that cannot be used."""
        if self.pin is not None:
            return PinnedContext(self.pin)
        return AcceptingContext() if self.ignore_ssl_errors else verifying_context(self.ca_file)

    def proxy_for(self, url: URL) -> ProxyUrl | None:
        """The proxy through which `url` is requested.  Raises `InvalidAddress` for an unusable one."""
        return self.proxy or (environment_proxy(url) if self.trust_env else None)


def user_agent(version: str) -> str:
    """How this program names itself to a server that is told that it is of `version`; its own stands beside it."""
    return f"tentacle/{version} ({__version__})"


class HttpClient:
    """Sends each request over a connection of its own.

    With `cookies` the server's cookies are kept and sent back.  `on_request` gets a line for each request.
    """

    def __init__(
        self, options: HttpOptions, *, user_agent: str, cookies: bool, on_request: Callable[[str], None] | None
    ) -> None:
        self._options = options
        self._user_agent = user_agent
        self._cookies = cookies
        self._on_request = on_request
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        # Octopus cookies hold characters that must be sent back exactly as they were set: hence no quoting.  Servers
        # without a name are common: hence cookies for bare addresses too.
        jar = aiohttp.CookieJar(unsafe=True, quote_cookie=False) if self._cookies else aiohttp.DummyCookieJar()
        timeout = self._options.timeout
        self._tls = self._options.tls_context()
        self._session = aiohttp.ClientSession(
            cookie_jar=jar,
            headers={"Accept": "application/json", "User-Agent": self._user_agent},
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, CONNECT_SECONDS)),
            # A server may close a connection after an answer without saying so, which costs the next request.
            connector=aiohttp.TCPConnector(force_close=True),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    def cookie_names_and_values(self, url: URL) -> list[tuple[str, str]]:
        """The cookies that would go to `url`."""
        assert self._session is not None
        return [(name, morsel.value) for name, morsel in self._session.cookie_jar.filter_cookies(url).items()]

    async def send(self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None = None) -> HttpResponse:
        """Returns the answer to one request; a redirect is an answer.

        Raises `ConnectionFailed`, `CertificateRefused`, `ProxyRefused`, `NotAnOctopusServer`.
        """
        proxy = self._options.proxy_for(url)
        try:
            response = await self._request(method, url, headers, body, proxy)
        except aiohttp.ClientConnectorCertificateError as error:
            raise await self._certificate_refused(url, proxy, error) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self._report(method, url, type(error).__name__)
            closed = isinstance(error, _CLOSED) and not isinstance(error, aiohttp.ClientConnectorError)
            if closed and url.scheme == "http" and proxy is None and await self._speaks_tls(url):
                raise NoTls(
                    f"The Octopus Server at {url.origin()} speaks HTTPS on this port, and not plain HTTP.",
                    hint="Use https:// in its address.",
                ) from error
            raise _octopus_error(error, url, proxy, self._options.timeout) from error
        self._report(method, url, str(response.status))
        return response

    async def _request(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, proxy: ProxyUrl | None
    ) -> HttpResponse:
        assert self._session is not None
        assert self._tls is not None
        # For https the proxy reads only the CONNECT request, for http only the request itself.
        for_proxy = _proxy_headers(proxy)
        connects = url.scheme == "https"
        async with self._session.request(
            method,
            url,
            headers={**headers, **({} if connects else for_proxy)},
            data=body,
            allow_redirects=False,
            ssl=self._tls,
            proxy=proxy.url if proxy else None,
            proxy_headers=for_proxy if connects else None,
        ) as response:
            received = bytearray()
            async for chunk in response.content.iter_chunked(64 * 1024):
                received += chunk
                if len(received) > MAX_BODY:
                    response.close()
                    raise NotAnOctopusServer(str(url.origin()), f"its answer is longer than {MAX_BODY >> 20} MiB")
            lower = {name.lower(): value for name, value in response.headers.items()}
            if "proxy-authenticate" in lower:
                lower["proxy-authenticate"] = ", ".join(response.headers.getall("Proxy-Authenticate"))
            return HttpResponse(response.status, url, lower, bytes(received))

    async def _certificate_refused(
        self, url: URL, proxy: ProxyUrl | None, error: aiohttp.ClientConnectorCertificateError
    ) -> CertificateRefused:
        """The error for a refused certificate, which is fetched again over a connection that carries no secret."""
        der = await self._presented(url.origin(), proxy)
        reason = getattr(error.certificate_error, "verify_message", "") or one_line(error.certificate_error)
        return CertificateRefused(
            str(url.origin()),
            reason.rstrip("."),
            subject_of(der) if der else None,
            thumbprint_of(der) if der else None,
            pinned=self._options.pin is not None,
        )

    async def _speaks_tls(self, url: URL) -> bool:
        """Whether the port behind `url` takes TLS: what does often ends plain HTTP without a word."""
        return await self._presented(URL.build(scheme="https", host=url.host or "", port=url.port), None) is not None

    async def _presented(self, origin: URL, proxy: ProxyUrl | None) -> bytes | None:
        """The certificate that the server shows, whoever has signed it; `None` when there was no handshake."""
        context = AcceptingContext()
        timeout = aiohttp.ClientTimeout(total=min(self._options.timeout, CONNECT_SECONDS))
        connector = aiohttp.TCPConnector(force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
                session.head(
                    origin,
                    ssl=context,
                    allow_redirects=False,
                    proxy=proxy.url if proxy else None,
                    proxy_headers=_proxy_headers(proxy),
                ),
            ):
                pass
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            pass  # Only the handshake was wanted.
        return context.presented()

    def _report(self, method: str, url: URL, outcome: str) -> None:
        if self._on_request is not None:
            self._on_request(f"{method} {url}: {outcome}")


def _proxy_headers(proxy: ProxyUrl | None) -> dict[str, str]:
    authorization = proxy.authorization if proxy else None
    return {"Proxy-Authorization": authorization} if authorization else {}


def _octopus_error(error: Exception, url: URL, proxy: ProxyUrl | None, timeout: float) -> OctopusError:
    """Our error for one of aiohttp's."""
    where = str(url.origin())
    if isinstance(getattr(error, "os_error", None), socket.gaierror):
        # Through a proxy, the proxy's name is the only one that this machine looks up.
        return NameUnresolved(
            f"The name '{proxy.host if proxy else url.host}' of the {'proxy' if proxy else 'Octopus Server'} "
            f"cannot be resolved: {_reason(error)}.",
            hint="Check its spelling, and this machine's DNS (for example with: getent hosts NAME).",
        )
    if isinstance(error, aiohttp.ClientHttpProxyError) and error.status in FINAL_REFUSALS:
        offers = error.headers.getall("Proxy-Authenticate", []) if error.headers else ()
        return ProxyRefused(str(proxy.url) if proxy else "", error.status, where, offers=offers)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectionFailed(
            f"The proxy {proxy.url if proxy else ''} could not connect to {where}: {error.status} "
            f"{one_line(Exception(error.message))}.",
            hint="Check the server's address, and that the proxy's machine can reach it.",
        )
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return ConnectionFailed(
            f"The proxy {proxy.url if proxy else ''} cannot be reached: {_reason(error)}.",
            hint="Check the proxy's address, or that the server needs no proxy.",
        )
    if isinstance(error, aiohttp.ClientResponseError):
        return NotAnOctopusServer(where, "it does not speak HTTP")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        who = f"The proxy {proxy.url}" if proxy else f"The Octopus Server at {where}"
        return ConnectionFailed(
            f"{who} did not take a connection within {min(timeout, CONNECT_SECONDS):g} seconds.",
            hint="Check the address, and that no firewall swallows the connection.",
        )
    if isinstance(error, TimeoutError):
        through = f" through the proxy {proxy.url}" if proxy else ""
        return ConnectionFailed(
            f"The Octopus Server at {where} did not answer{through} within {timeout:g} seconds.",
            hint="Check that the server is running and that no firewall swallows the connection.",
        )
    if isinstance(error, aiohttp.ClientPayloadError):
        return ConnectionFailed(
            f"The Octopus Server at {where} broke off in the middle of its answer.",
            hint="Check what is between here and there: proxies, load balancers, firewalls.",
        )
    if isinstance(error, aiohttp.ClientSSLError):
        kind = NoTls if is_tls_nonsense(error.os_error) else ConnectionFailed
        return kind(
            f"No TLS connection to {where} was possible: {_reason(error)}.",
            hint="If the server speaks plain HTTP, use http:// in its address.",
        )
    return ConnectionFailed(
        f"The Octopus Server at {where} cannot be reached: {_reason(error)}.",
        hint="Check the address, that the server is running, and firewalls in between.",
    )


def _reason(error: BaseException) -> str:
    inner = getattr(error, "os_error", None) or error
    if isinstance(inner, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    return network_reason(inner)
