"""HTTP proxies, and which one the environment variables name for a request.

Knows proxy addresses and their credentials, which no repr shows.  Knows nothing of settings or of the server.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.request
from dataclasses import field

from yarl import URL

from tentacle.octopus.errors import InvalidAddress
from tentacle.records import dataclass
from tentacle.wire.connect import basic_authorization


@dataclass(frozen=True)
class ProxyUrl:
    """An HTTP proxy, `host` without brackets, with basic credentials when `username` is set."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> ProxyUrl:
        """Reads `http://[user:password@]host[:port]`; the scheme may be missing.

        Raises `InvalidAddress`, whose message does not repeat `text`, which may hold a password.
        """
        try:
            url = URL(text if "://" in text else f"http://{text}")
            host, port = url.host, url.port
        except ValueError:
            host, port, url = None, None, URL()
        if not host or port is None or url.scheme != "http":
            raise InvalidAddress(
                "The proxy address is not of the form http://[user:password@]host:port.",
                hint="Check the proxy settings and the variables HTTP_PROXY and HTTPS_PROXY.",
            )
        return cls(host, port, url.user, url.password)

    @property
    def url(self) -> URL:
        """The proxy's address without its credentials."""
        return URL.build(scheme="http", host=self.host, port=self.port)

    @property
    def authorization(self) -> str | None:
        """The value of a `Proxy-Authorization` header, which is a secret; None without a user name."""
        return basic_authorization(self.username, self.password)


def environment_proxy(url: URL) -> ProxyUrl | None:
    """The proxy that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case, name for `url`.

    Raises `InvalidAddress` when the variable does not hold a proxy's address.
    """
    proxies = urllib.request.getproxies_environment()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found or goes_without(url, proxies.get("no", "")):
        return None
    return ProxyUrl.parse(found)


def goes_without(url: URL, no_proxy: str) -> bool:
    """Whether `no_proxy` names the host of `url`.

    It lists `*`, names with everything below them (`corp`, `.corp`, `*.corp`), IP addresses and networks
    (`10.0.0.0/8`, `::1`).  With a port (`corp:8443`, `[::1]:443`) an entry is for that port alone.
    """
    host = (url.host or "").lower().rstrip(".")
    return any(_matches(entry, host, url.port) for entry in re.split(r"[,\s]+", no_proxy.lower()) if entry)


def _matches(entry: str, host: str, port: int | None) -> bool:
    """Whether one entry of `NO_PROXY` is for `host` and `port`."""
    match = re.fullmatch(r"\[([^\]]*)\](?::([0-9]+))?|([^:]*)(?::([0-9]+))?", entry)
    name, only = entry, None
    if match is not None:
        name, only = match[1] or match[3] or "", match[2] or match[4]
    if only is not None and only != str(port):
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        name = name.removeprefix("*").strip(".")
    if not name:
        return entry.startswith("*")
    return host == name or host.endswith(f".{name}")
