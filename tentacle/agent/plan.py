"""From settings to what is to be done: whom to trust, whom to poll and how often, where to listen.  Pure.

The lines that go with it are those that operators and tools know (docs/spec/command-line.md, "Agent start lines").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import SplitResult, quote, urlsplit

from tentacle.errors import TentacleError
from tentacle.records import dataclass
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings, TrustedServer
from tentacle.settings.trust import thumbprints_of
from tentacle.thumbprints import doubts_about
from tentacle.transport.address import Address, Proxy, proxy_name

MAX_CONNECTIONS = 512
COUNT_VARIABLE = "TentaclePollingConnectionCount"
_LARGEST_COUNT = 2**32 - 1
_LONGEST_NUMBER = 20
_PORTS = range(65536)
_HTTPS_PORT = 443
_URL_CHARACTERS = "%/:=&?~+!$,;'@()*[]"
"""What a path may hold as it is; all else is percent-encoded."""


@dataclass(frozen=True)
class PollPlan:
    """One server to poll: `shown` is its address as people know it."""

    address: Address
    subscription: str
    shown: str
    connections: int


@dataclass(frozen=True)
class Plan:
    """`listen` is host (`None`: every address) and port, or `None` when the agent does not listen.

    `lines` are to be said at the start, in order.
    """

    trusted: frozenset[str]
    polls: tuple[PollPlan, ...]
    listen: tuple[str | None, int] | None
    lines: tuple[str, ...]


def make_plan(settings: Settings, environment: Mapping[str, str]) -> Plan:
    """Raises `TentacleError` for an address that cannot be polled and a port that does not exist."""
    # Once for a server that is polled at several addresses, or that calls besides.
    trusted = thumbprints_of(settings.servers)
    lines = [f"Agent will trust Octopus Servers with the thumbprint: {one}" for one in trusted]
    lines = lines or ["The agent is not configured to trust any Octopus Servers."]
    doubts = doubts_about(trusted)
    lines += [f"{doubt}: no server can have it" for doubt in doubts.values()]
    polls = []
    for server in settings.servers:
        if server.style is CommunicationStyle.TENTACLE_ACTIVE:
            poll, said = _plan_poll(server, settings, environment)
            lines += said
            polls += [poll] if poll else []
    if settings.port not in _PORTS:
        raise TentacleError(
            f"{settings.port} is not a port to listen on.",
            hint="Set one from 0 to 65535 with: Tentacle configure --port=...",
        )
    if settings.no_listen:
        lines.append("Agent will not listen on any TCP ports")
    return Plan(
        trusted=frozenset(one.upper() for one in trusted),
        polls=tuple(polls),
        listen=None if settings.no_listen else (settings.listen_ip or None, settings.port),
        lines=tuple(lines),
    )


def _plan_poll(
    server: TrustedServer, settings: Settings, environment: Mapping[str, str]
) -> tuple[PollPlan | None, list[str]]:
    if not server.address or not server.subscription_id:
        return None, [
            f"Configured to connect to server {server.thumbprint}, but its configuration is incomplete; skipping."
        ]
    address = polled_address(server.address, https=server.https)
    shown = _shown(_read_address(server.address))
    proxy = _proxy(settings.polling_proxy)
    lines = [
        f"Agent will poll Octopus Server at {shown} for subscription {server.subscription_id} "
        f"expecting {_expected(server)}"
    ]
    if proxy is not None:
        lines.append(f"Agent will use the octopus configured proxy at {proxy_name(proxy)} for server at {shown}")
    elif not settings.polling_proxy.use_default:
        lines.append("Agent will not use a proxy server")
    connections, said = polling_connections(settings.polling_connection_count, environment)
    address = replace(address, thumbprint=server.thumbprint.upper(), proxy=proxy, ca_file=server.ca_file)
    return PollPlan(address, server.subscription_id, shown, connections), [*lines, *said]


def polling_connections(configured: int | None, environment: Mapping[str, str]) -> tuple[int, list[str]]:
    """How many connections to open to each server, and the lines that say why (docs/spec/command-line.md,
    "Agent start lines").
    """
    requested, lines = _unsigned(environment.get(COUNT_VARIABLE, "")), []
    if requested is not None:
        count = requested
        lines.append(f"Requested polling connection count (from {COUNT_VARIABLE} environment variable): {count}")
    elif configured is not None:
        count = configured
        lines.append(f"Requested polling connection count (from Tentacle configuration): {count}")
    else:
        count = 1
    if count > MAX_CONNECTIONS:
        lines.append(
            f"The requested polling connection count exceeds the maximum of {MAX_CONNECTIONS}, "
            f"limiting to {MAX_CONNECTIONS}"
        )
    if count < 1:
        lines.append("The requested polling connection count must be greater than 0, setting to 1")
    count = min(max(count, 1), MAX_CONNECTIONS)
    return count, [*lines, f"Starting {count} polling connections"]


def _unsigned(text: str) -> int | None:
    """The number that .NET reads as an unsigned 32-bit integer; anything else counts as not given."""
    digits = text.strip().removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST_NUMBER):
        return None
    number = int(digits)
    return number if number <= _LARGEST_COUNT else None


def _expected(server: TrustedServer) -> str:
    if not server.https:
        return f"thumbprint {server.thumbprint}"
    if server.ca_file is None:
        return f"thumbprint {server.thumbprint}, by HTTPS"
    return f"a certificate that {server.ca_file} vouches for, by HTTPS"


def polled_address(address: str, *, https: bool = False) -> Address:
    """Where a server is polled, by `https` or by Halibut, without a thumbprint or a proxy.  Raises `TentacleError`."""
    parts = _read_address(address)
    where = Address(parts.hostname or "", parts.port or _HTTPS_PORT, "", web_socket=_web_socket(parts))
    if not https:
        return where
    if parts.scheme != "https" or parts.query:
        raise TentacleError(
            f"The server address {_shown(parts)[:200]!r} is not one that can be polled by HTTPS.",
            hint="It begins with https:// and has no query.",
        )
    return replace(where, https=quote(parts.path.rstrip("/"), safe=_URL_CHARACTERS))


def _read_address(address: str) -> SplitResult:
    """The address, which has a host.  Raises `TentacleError`."""
    try:
        parts = urlsplit(address.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise TentacleError(
            f"The server address {address[:200]!r} is not one that can be polled.",
            hint="Set it with: Tentacle server-comms --thumbprint=... --style=TentacleActive --host=... --port=...",
        )
    return parts


def _web_socket(parts: SplitResult) -> str | None:
    """Path and query of a web socket, as HTTP says them; `None` for an address of another kind."""
    if parts.scheme != "wss":
        return None
    query = f"?{parts.query}" if parts.query else ""
    return quote(f"{parts.path or '/'}{query}", safe=_URL_CHARACTERS)


def _shown(parts: SplitResult) -> str:
    """As the original shows a URI: the host in lower case, no default port, a slash at the end, and no password."""
    host = parts.hostname or ""
    port = "" if parts.port in (None, _HTTPS_PORT) else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path or '/'}"


def _proxy(proxy: ProxySettings) -> Proxy | None:
    """The proxy for polling.  On Linux the original takes "the default proxy" for none (docs/spec/command-line.md,
    "proxy and polling-proxy").
    """
    host = proxy.custom_host
    return None if host is None else Proxy(host, proxy.port, proxy.username, proxy.password)
