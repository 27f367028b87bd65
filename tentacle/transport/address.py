"""Where to connect, as a value; must not know how that is done (`dial.py`)."""

from __future__ import annotations

from dataclasses import field

from tentacle.records import dataclass
from tentacle.wire.connect import authority


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy that is asked with CONNECT (docs/spec/wire.md, "HTTP proxies")."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Address:
    """Where to connect, and the thumbprint of the certificate that must answer.

    `web_socket` is the path (and query) of a web socket there, `https` the path below which requests by HTTPS are
    answered (`""`: at the root); without either it is Halibut.  With `ca_file` a chain of certificates to one of that
    file, and the host's name, count instead of the thumbprint.
    """

    host: str
    port: int
    thumbprint: str
    proxy: Proxy | None = None
    web_socket: str | None = None
    https: str | None = None
    ca_file: str | None = None

    def __str__(self) -> str:
        return authority(self.host, self.port)

    @property
    def url(self) -> str:
        """As it is configured, with its port."""
        return f"https://{self}{self.https or ''}/" if self.web_socket is None else f"wss://{self}{self.web_socket}"


def proxy_name(proxy: Proxy) -> str:
    """`host:port`, as a message names it."""
    return authority(proxy.host, proxy.port)
