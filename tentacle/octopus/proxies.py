"""Which HTTP proxy a request goes through, given outright or by the environment variables.

Knows proxy addresses and their credentials, which no repr shows.  Knows nothing of settings or of the server.
"""

from __future__ import annotations

import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field

from yarl import URL

from tentacle.octopus.errors import InvalidAddress


@dataclass(frozen=True)
class ProxyUrl:
    """An HTTP proxy, `host` without brackets, with basic credentials when `username` is set."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> ProxyUrl:
        """The proxy in `http://[user:password@]host[:port]`; the scheme may be missing.  Raises `InvalidAddress`.

        The message does not repeat `text`, which may hold a password.
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
        """The value of a `Proxy-Authorization` header, or None.  A secret."""
        if not self.username:
            return None
        plain = f"{self.username}:{self.password or ''}".encode()
        return "Basic " + b64encode(plain).decode("ascii")


def environment_proxy(url: URL) -> ProxyUrl | None:
    """The proxy that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` (either case) give for `url`."""
    proxies = urllib.request.getproxies_environment()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found or urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return ProxyUrl.parse(found)
