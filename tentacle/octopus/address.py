"""Where a polling agent finds its server: the address rule of tentacle-cli.md 3.9.

Pure text.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from tentacle.octopus.errors import InvalidAddress
from tentacle.octopus.links import ServerAddress

DEFAULT_COMMS_PORT = 10943
_SCHEME_PORTS = {"https": 443, "http": 80}


def polling_address(server: str, comms_address: str | None = None, comms_port: int | None = None) -> str:
    """`https://HOST:PORT`, the port always shown and the host in lower case, IPv6 in brackets.

    Without `comms_address` the host is the server's and the port `comms_port` or 10943.  With it, its host is taken,
    and its port (443 or 80 when it names none) unless `comms_port` is given.  Raises `InvalidAddress`.
    """
    if comms_port is not None and not 0 < comms_port < 65536:
        raise InvalidAddress(f"{comms_port} is not a TCP port.", hint="Ports are numbers from 1 to 65535.")
    if comms_address is None or not comms_address.strip():
        host, _ = _host_and_port(ServerAddress.parse(server).origin)
        return f"https://{host}:{comms_port or DEFAULT_COMMS_PORT}"
    host, port = _host_and_port(_checked(comms_address.strip()))
    return f"https://{host}:{comms_port or port}"


def _checked(comms_address: str) -> str:
    try:
        return ServerAddress.parse(comms_address).origin
    except InvalidAddress:
        raise InvalidAddress(
            f"The server communications address '{comms_address.rpartition('@')[2][:200]}' is not a valid URL.",
            hint="Give it with its scheme, for example --server-comms-address=https://octopus:10943",
        ) from None


def _host_and_port(origin: str) -> tuple[str, int]:
    """Host (IPv6 in brackets) and port of an origin that has been parsed before."""
    parts = urlsplit(origin)
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host, parts.port or _SCHEME_PORTS[parts.scheme]
