"""Calling an Octopus Server for a command: the client with the right proxy, certificates and notices.

Knows which proxy is used when (tentacle-cli.md 5.3, last paragraph).  Must not know what is said to the server.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from yarl import URL

from tentacle import __version__
from tentacle.cli.frame.credentials import Access
from tentacle.cli.frame.options import ApiOptions
from tentacle.cli.frame.render import say, trace, warn_loudly
from tentacle.errors import TentacleError
from tentacle.octopus.client import OctopusClient, Rehearse
from tentacle.octopus.connectivity import ConnectivityCheck
from tentacle.octopus.errors import ConnectionFailed
from tentacle.octopus.proxies import ProxyUrl, environment_proxy
from tentacle.settings.model import ProxySettings

PATIENCE = 60.0
"""Seconds for which one step goes on trying a server that cannot be reached or is busy (tentacle-cli.md 5.4)."""


def custom_proxy(proxy: ProxySettings) -> ProxyUrl | None:
    """The proxy that was configured outright, None when the environment's or no proxy is to be used."""
    if proxy.use_default or not proxy.host:
        return None
    return ProxyUrl(proxy.host.strip("[]"), proxy.port, proxy.username or None, proxy.password or None)


def client_of(
    api: ApiOptions,
    access: Access,
    *,
    proxy: ProxyUrl | None,
    trust_env: bool,
    retry_for: float = PATIENCE,
    on_request: Callable[[str], None] | None = None,
    rehearse: Rehearse | None = None,
) -> OctopusClient:
    """A client that has not yet said anything; `trust_env` lets it use `HTTPS_PROXY` and its like.

    `retry_for`, `on_request` and `rehearse` as `OctopusClient` has them.
    """
    if api.ignore_ssl_errors and api.server_thumbprint:
        raise TentacleError(
            "--ignoreSslErrors and --serverThumbprint exclude each other.",
            hint="Leave --ignoreSslErrors out: with a thumbprint no other certificate is accepted.",
        )
    if api.ignore_ssl_errors:
        warn_loudly(
            "WARNING: --ignoreSslErrors: the certificate of the Octopus Server is NOT checked. "
            "Whoever sits in between can read these credentials and take this machine over."
        )
    return OctopusClient(
        access.server,
        access.credentials,
        version=__version__,
        ignore_ssl_errors=api.ignore_ssl_errors,
        ca_file=api.ca_file,
        pin=api.server_thumbprint or None,
        proxy=proxy,
        trust_env=trust_env,
        retry_for=retry_for,
        on_notice=say,
        on_request=on_request or trace,
        rehearse=rehearse,
    )


async def check_connectivity(address: str, proxy: ProxyUrl | None) -> str:
    """The thumbprint of the certificate that `address`, `https://HOST:PORT`, shows.

    Raises ConnectionFailed when nothing answers there like a server's polling port.
    """
    parts = urlsplit(address)
    assert parts.hostname is not None and parts.port is not None, "polling_address always names both"
    trace(f"POST {address}/handshake")
    try:
        return await ConnectivityCheck(on_retry=say).run(parts.hostname, parts.port, proxy=proxy)
    except ConnectionFailed as error:
        if proxy is not None or environment_proxy(URL(address)) is None:
            raise
        raise ConnectionFailed(
            error.message,
            hint="Polling does not use the proxy of HTTPS_PROXY. If there is no way without one, name it: "
            "Tentacle polling-proxy --proxyEnable=true --proxyHost=... --proxyPort=...",
        ) from error
