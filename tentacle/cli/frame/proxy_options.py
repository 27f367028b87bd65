"""What `proxy` and `polling-proxy` have in common (tentacle-cli.md 3.10): the options and what they do to a proxy."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from tentacle.cli.frame.command import option, order_given
from tentacle.cli.frame.credentials import Source, read_secret
from tentacle.cli.frame.options import in_order, together
from tentacle.cli.frame.render import warn_loudly
from tentacle.cli.frame.result import Result
from tentacle.cli.frame.session import InstanceOptions, Session
from tentacle.cli.frame.values import InvalidValue, need_port, parse_whole_number, true_or_false
from tentacle.settings.model import DEFAULT_PROXY_PORT, ProxySettings, Settings


@dataclass(frozen=True)
class ProxyWishes:
    """The options as given."""

    enable: bool | None
    username: str | None
    password: str | None = field(repr=False)
    host: str | None
    port: str | None
    password_file: str | None = None
    password_stdin: bool = False
    password_credential: str | None = None


proxy_options = together(
    "wishes",
    ProxyWishes,
    option("--proxyEnable", "enable", callback=true_or_false, help="Whether to use a proxy"),
    option("--proxyUsername", "username", help="Username to use when authenticating with the proxy"),
    option("--proxyPassword", "password", sensitive=True, help="Password to use when authenticating with the proxy"),
    option("--proxyHost", "host", help="The proxy host to use. Leave empty to use the default Internet Explorer proxy"),
    option("--proxyPort", "port", help="The proxy port to use in conjunction with the Host set with proxyHost"),
)

extra_proxy_options = in_order(
    option("--proxyPasswordFile", "password_file", help="A file that holds nothing but the password"),
    option(
        "--proxyPasswordStdin",
        "password_stdin",
        is_flag=True,
        help="Read the password from the first line of standard input",
    ),
    option(
        "--proxyPasswordCredential",
        "password_credential",
        help="The name of a systemd credential that holds the password",
    ),
)
"""Not the original's: passwords that no process list shows.  They stand last in help; `proxy_options` collects them."""


def with_password(session: Session, wishes: ProxyWishes, order: Sequence[str]) -> tuple[ProxyWishes, Sequence[str]]:
    """The wishes and their order with the password from wherever it is.  Raises TentacleError where there is none."""
    if not (wishes.password_file or wishes.password_stdin or wishes.password_credential):
        return wishes, order
    ways = wishes.password_file, wishes.password_stdin, wishes.password_credential
    password = read_secret(session, Source("proxy password", wishes.password, *ways))
    return replace(wishes, password=password), (*order, "password")


def set_proxy(session: Session, where: InstanceOptions, wishes: ProxyWishes, *, polling: bool) -> Result:
    """Does what the wishes say to one of the two proxies."""
    file = session.choose(where)
    wishes, order = with_password(session, wishes, order_given())
    lines: list[str] = []

    def proxy_in(settings: Settings) -> ProxySettings:
        return settings.polling_proxy if polling else settings.proxy

    def apply(settings: Settings) -> Settings:
        nonlocal lines
        changed, lines = changed_proxy(proxy_in(settings), wishes, order)
        return replace(settings, polling_proxy=changed) if polling else replace(settings, proxy=changed)

    changed = proxy_in(file.update(apply))
    warn_of_unused(wishes, order)
    return Result(tuple(lines), facts=proxy_facts(changed))


def changed_proxy(proxy: ProxySettings, wishes: ProxyWishes, order: Sequence[str]) -> tuple[ProxySettings, list[str]]:
    """`proxy` after the wishes in the order of the command line, and the lines that say so.

    Without `--proxyEnable=true` the proxy is off; its user, password and port stay for the next time.
    """
    lines: list[str] = []
    host_seen = False
    for name in dict.fromkeys(order):
        match name:
            case "username":
                proxy = replace(proxy, username=wishes.username or None)
                lines.append(
                    f"Proxy username set to: {wishes.username}" if wishes.username else "Proxy username cleared"
                )
            case "password":
                proxy = replace(proxy, password=wishes.password or None)
                lines.append("Proxy password set to: *******" if wishes.password else "Proxy password cleared")
            case "host":
                host_seen = True
            case "port":
                proxy = replace(proxy, port=_port(wishes.port))
                lines += [f"Proxy port set to: {proxy.port}"] if host_seen else []
    host = _host(wishes.host) if wishes.enable else None
    if host:
        return replace(proxy, use_default=False, host=host), [*lines, f"Using custom proxy at: {host}"]
    line = "Using Internet Explorer Proxy" if wishes.enable else "Proxy use is disabled"
    return replace(proxy, use_default=bool(wishes.enable), host=None), [*lines, line]


def warn_of_unused(wishes: ProxyWishes, order: Sequence[str]) -> None:
    """Says what of a whole URL in `--proxyHost` has no effect, as in the original, where nothing else gives it."""
    try:
        parts = urlsplit((wishes.host or "").strip())
        port, user = parts.port, parts.username
    except ValueError:
        return
    if wishes.enable and port is not None and "port" not in order:
        warn_loudly(f"The port in --proxyHost does not count. If you meant it, add --proxyPort={port}")
    if wishes.enable and user and "username" not in order:
        warn_loudly("The user name in --proxyHost does not count. Use --proxyUsername and --proxyPasswordFile")


def proxy_facts(proxy: ProxySettings) -> dict[str, Any]:
    """What a program may know of a proxy: everything but the password."""
    return {
        "UseDefaultProxy": proxy.use_default,
        "ProxyHost": proxy.host,
        "ProxyPort": proxy.port,
        "ProxyUsername": proxy.username,
        "ProxyPasswordSet": proxy.password is not None,
    }


def _port(given: str | None) -> int:
    if not given or not given.strip():
        return DEFAULT_PROXY_PORT
    port = parse_whole_number(given, "--proxyPort")
    need_port(port, "--proxyPort")
    return port


def _host(given: str | None) -> str | None:
    """The host in what was given, which may be a whole URL; None when nothing was."""
    if not given or not given.strip():
        return None
    text = given.strip()
    with suppress(ValueError):
        return f"[{ipaddress.IPv6Address(text)}]"
    try:
        host = urlsplit(text if "://" in text else f"//{text}").hostname
    except ValueError:
        host = None
    if not host or not host.isprintable() or " " in host:
        raise InvalidValue(
            f"The proxy host '{given.rpartition('@')[2]}' is not a host name.", hint="e.g. --proxyHost=proxy.local"
        )
    return f"[{host}]" if ":" in host else host
