"""How this machine calls an Octopus Server: its address, the proxy on the way, the certificates that are accepted.

Decides that for every command that calls a server (docs/spec/rest.md, "Proxies of the REST client"), so that what is
tried out is what is used later.  Must not know what is said to the server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any, Final, TypeVar

from yarl import URL

from tentacle.agent.plan import polled_address
from tentacle.cli.frame.render import say, trace, warn_loudly
from tentacle.cli.registration.options import ApiOptions
from tentacle.errors import TentacleError
from tentacle.octopus.certificates import parse_pin
from tentacle.octopus.client import OctopusClient, Rehearse
from tentacle.octopus.connectivity import ConnectivityCheck
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.errors import ConnectionFailed
from tentacle.octopus.http_client import REQUEST_SECONDS, HttpClient, HttpOptions, HttpResponse, user_agent
from tentacle.octopus.link_templates import POLLING_LINK, find_link
from tentacle.octopus.proxies import ProxyUrl, environment_proxy
from tentacle.octopus.server_address import (
    ServerAddress,
    https_polling_address,
    linked_polling_address,
    polling_address,
    web_socket_address,
)
from tentacle.records import dataclass
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings

T = TypeVar("T")

RETRY_SECONDS: Final = 60.0
"""How long one step goes on trying a server that cannot be reached or is busy (docs/spec/rest.md, "Retries")."""


@dataclass(frozen=True)
class ServerRoute:
    """The way to a server's REST interface.

    It leads through `proxy`; where that is None and `environment_proxies` is set, through the one that `HTTPS_PROXY`
    and its like name.  `pin` is the thumbprint of the only certificate that is accepted.  `version` is what the server
    is told of this agent.
    """

    address: ServerAddress
    proxy: ProxyUrl | None
    environment_proxies: bool
    version: str
    ignore_ssl_errors: bool = False
    ca_file: str | None = None
    pin: str | None = None

    @property
    def proxy_in_use(self) -> ProxyUrl | None:
        """The proxy that requests go through.  Raises InvalidAddress for one in the environment that is no address."""
        return self.proxy or (environment_proxy(URL(self.address.base)) if self.environment_proxies else None)

    def client(
        self,
        credentials: Credentials,
        *,
        retry_for: float = RETRY_SECONDS,
        timeout: float = REQUEST_SECONDS,
        on_request: Callable[[str], None] = trace,
        rehearse: Rehearse | None = None,
    ) -> OctopusClient:
        """A client that has not said anything yet; the arguments are those of `OctopusClient`."""
        if self.ignore_ssl_errors:
            warn_loudly(
                "WARNING: --ignoreSslErrors: the certificate of the Octopus Server is NOT checked. "
                "Whoever sits in between can read these credentials and take this machine over."
            )
        how = {"retry_for": retry_for, "timeout": timeout, "on_request": on_request, "rehearse": rehearse}
        return self._client(credentials, on_notice=say, **how)

    def probing_client(
        self, credentials: Credentials, timeout: float, on_request: Callable[[str], None] = trace
    ) -> OctopusClient:
        """A client for a single look: no notices, no retries, and `timeout` seconds for a request."""
        return self._client(credentials, timeout=timeout, retry_for=0.0, on_request=on_request)

    def _client(self, credentials: Credentials, **how: Any) -> OctopusClient:
        return OctopusClient(
            self.address.display,
            credentials,
            version=self.version,
            ignore_ssl_errors=self.ignore_ssl_errors,
            ca_file=self.ca_file,
            pin=self.pin,
            proxy=self.proxy,
            trust_env=self.environment_proxies,
            **how,
        )

    async def root_document(self, timeout: float, on_request: Callable[[str], None] = trace) -> HttpResponse:
        """The server's answer to a request for its root document, which everybody may see.  Raises OctopusError."""
        ignore, proxies = self.ignore_ssl_errors, self.environment_proxies
        options = HttpOptions(ignore, self.ca_file, self.proxy, proxies, timeout, self.pin)
        name = user_agent(self.version)
        async with HttpClient(options, user_agent=name, cookies=False, on_request=on_request) as http:
            return await http.send("GET", URL(f"{self.address.base}/api"), {})


def converse(client: OctopusClient, act: Callable[[OctopusClient], Awaitable[T]]) -> T:
    """Signs `client` in and returns what `act` returns for it.  Raises OctopusError."""

    async def conversation() -> T:
        async with client:
            return await act(client)

    return asyncio.run(conversation())


def route_to_register(server: str, api: ApiOptions, settings: Settings, *, polling: bool | None = None) -> ServerRoute:
    """The way to `server` for a machine that registers with it in order to poll or to listen; None: as it does now.

    A polling machine registers through the proxy that it polls through.  A listening machine's own proxy is for its
    scripts alone; only whether the environment's proxies are used depends on it.  Raises TentacleError.
    """
    if polling or (polling is None and is_polling(settings)):
        proxy, environment_proxies = polling_proxy(settings), settings.polling_proxy.use_default
    else:
        proxy, environment_proxies = None, settings.proxy.use_default
    return _route(server, api, settings, proxy, environment_proxies)


def route_when_registered(server: str, api: ApiOptions, settings: Settings) -> ServerRoute:
    """The way to `server` for the original's commands about a machine that is registered already.

    Whether it polls or listens does not matter, and the environment's proxies are never used.  Raises TentacleError.
    """
    return _route(server, api, settings, polling_proxy(settings), False)


def is_polling(settings: Settings) -> bool:
    """Whether a machine with these settings polls; one that does not listen is meant to."""
    return settings.no_listen or any(one.style is CommunicationStyle.TENTACLE_ACTIVE for one in settings.servers)


def polling_proxy(settings: Settings) -> ProxyUrl | None:
    """The proxy that polling goes through, which is never the environment's; None where there is none."""
    proxy: ProxySettings = settings.polling_proxy
    if proxy.custom_host is None:
        return None
    return ProxyUrl(proxy.custom_host, proxy.port, proxy.username or None, proxy.password or None)


def server_versions(reply: HttpResponse) -> tuple[str, str] | None:
    """The versions of the server and of its interface; None for an answer that is no root document."""
    try:
        root = json.loads(reply.body)
        return str(root["Version"]), str(root["ApiVersion"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def check_addresses(web_socket: str | None, comms_address: str | None) -> None:
    """Raises TentacleError for two addresses to poll, with the original's text."""
    if web_socket and comms_address:
        raise TentacleError("Please specify a --server-web-socket, or a --server-comms-address - not both.")


def check_https(https: bool, web_socket: str | None, *, style: str, polling: bool) -> None:
    """Raises TentacleError for `--https` where it means nothing; `style` is the option that says who calls whom."""
    if https and not polling:
        raise TentacleError(
            f"Option --https can only be used with {style}=TentacleActive: a Tentacle that listens answers by HTTPS "
            "anyway."
        )
    if https and web_socket:
        raise TentacleError("Please specify --https or a web socket - not both.")


def address_to_poll(server: str, web_socket: str | None, comms_address: str | None, comms_port: int | None) -> str:
    """The web socket's address, else that of the port.  Raises TentacleError."""
    if web_socket:
        return web_socket_address(web_socket)
    return polling_address(server, comms_address, comms_port)


def is_web_socket(address: str | None) -> bool:
    """Whether a server is polled there over a web socket, whose web server has a certificate of its own."""
    return (address or "").startswith("wss://")


def https_address(route: ServerRoute, comms_address: str | None, comms_port: int | None) -> str:
    """Where a server is polled by HTTPS: as given, else as its root document says.  Raises TentacleError."""
    if (comms_address or "").strip():
        return https_polling_address(comms_address or "", comms_port)
    if comms_port is not None:
        raise TentacleError(
            "With --https the port alone does not say where to poll.",
            hint="Give the whole address, for example --server-comms-address=https://octopus:8443",
        )
    reply = asyncio.run(route.root_document(REQUEST_SECONDS))
    with suppress(ValueError, TypeError, KeyError, RecursionError, AttributeError):
        template = find_link(json.loads(reply.body)["Links"], POLLING_LINK)
        if template is not None:
            return linked_polling_address(route.address, template)
    raise TentacleError(
        f"The server at {route.address.display} does not say that it can be polled by HTTPS.",
        hint="Leave --https out to poll by Halibut, or say where with --server-comms-address=https://...",
    )


def check_polling_port(address: str, settings: Settings, *, https: bool = False) -> Generator[str, None, str]:
    """Makes sure that a server's polling port answers, through the proxy that polling uses; yields each step.

    `address` is `https://HOST:PORT`, that of a web socket, or where the server is polled by `https`.  Returns the
    thumbprint of the certificate that is shown there.  Raises ConnectionFailed when nothing answers as it should.
    """
    target = polled_address(address, https=https)
    if https:
        yield f"Checking connectivity on the server address {address}..."
        trace(f"POST {address}/agents/nobody/next")
    elif target.web_socket is None:
        yield f"Checking connectivity on the server communications port {target.port}..."
        trace(f"POST {address}/handshake")
    else:
        yield f"Checking connectivity on the server web socket address {address}..."
        trace(f"GET {address}")
    proxy = polling_proxy(settings)
    try:
        check = ConnectivityCheck(on_retry=say)
        ways = {"web_socket": target.web_socket, "https": target.https}
        shown = asyncio.run(check.run(target.host, target.port, proxy=proxy, **ways))
    except ConnectionFailed as error:
        if proxy is not None or environment_proxy(URL(address)) is None:
            raise
        raise ConnectionFailed(
            error.message,
            hint="Polling does not use the proxy of HTTPS_PROXY. If there is no way without one, name it: "
            "Tentacle polling-proxy --proxyEnable=true --proxyHost=... --proxyPort=...",
        ) from error
    yield "Connected successfully"
    return shown


def accepted_pin(api: ApiOptions) -> str | None:
    """The thumbprint of the only certificate to accept from the server, None: whatever the system trusts.

    Raises TentacleError for options about the certificate that make no sense.
    """
    if api.ignore_ssl_errors and api.server_thumbprint:
        raise TentacleError(
            "--ignoreSslErrors and --serverThumbprint exclude each other.",
            hint="Leave --ignoreSslErrors out: with a thumbprint no other certificate is accepted.",
        )
    return parse_pin(api.server_thumbprint) if api.server_thumbprint else None


def _route(
    server: str, api: ApiOptions, settings: Settings, proxy: ProxyUrl | None, environment_proxies: bool
) -> ServerRoute:
    pin, address = accepted_pin(api), ServerAddress.parse(server)
    ignore, version = api.ignore_ssl_errors, settings.reported_version
    return ServerRoute(address, proxy, environment_proxies, version, ignore, api.ca_file, pin)
