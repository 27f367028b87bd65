"""Calling an Octopus Server for a command: the client with the right proxy, certificates and notices.

Knows which proxy is used when (tentacle-cli.md 5.3, last paragraph).  Must not know what is said to the server.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from tentacle import __version__
from tentacle.cli.credentials import Access
from tentacle.cli.options import ApiOptions
from tentacle.cli.render import say, warn_loudly
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.connectivity import ConnectivityCheck
from tentacle.octopus.proxies import ProxyUrl
from tentacle.settings.model import ProxySettings


def custom_proxy(proxy: ProxySettings) -> ProxyUrl | None:
    """The proxy that was configured outright, None when the environment's or no proxy is to be used."""
    if proxy.use_default or not proxy.host:
        return None
    return ProxyUrl(proxy.host.strip("[]"), proxy.port, proxy.username or None, proxy.password or None)


def client_of(api: ApiOptions, access: Access, *, proxy: ProxyUrl | None, trust_env: bool) -> OctopusClient:
    """A client that has not yet said anything; `trust_env` lets it use `HTTPS_PROXY` and its like."""
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
        proxy=proxy,
        trust_env=trust_env,
        on_notice=say,
    )


async def check_connectivity(address: str, proxy: ProxyUrl | None) -> None:
    """Raises ConnectionFailed when nothing answers at `address`, `https://HOST:PORT`, like a server's polling port."""
    parts = urlsplit(address)
    assert parts.hostname is not None and parts.port is not None, "polling_address always names both"
    await ConnectivityCheck(on_retry=say).run(parts.hostname, parts.port, proxy=proxy)
