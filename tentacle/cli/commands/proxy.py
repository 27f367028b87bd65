"""`proxy` and `polling-proxy`: the HTTP proxies that a listening and a polling Tentacle use (docs/spec/command-line.md,
"proxy and polling-proxy").
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field, replace
from urllib.parse import SplitResult, urlsplit

from tentacle.cli.frame.command import command, option, order_given
from tentacle.cli.frame.options import in_order, instance_options, json_option, together
from tentacle.cli.frame.render import warn_loudly
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.secrets import SecretOptions, credential_option, file_option, read_secret, stdin_option
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.values import InvalidValue, parse_port, true_or_false
from tentacle.records import dataclass
from tentacle.settings.model import DEFAULT_PROXY_PORT, ProxySettings, Settings


@dataclass(frozen=True)
class ProxyOptions:
    """The options as given."""

    enable: bool | None
    username: str | None
    password: str | None = field(repr=False)
    host: str | None
    port: str | None
    password_file: str | None = None
    password_stdin: bool = False
    password_credential: str | None = None


_proxy_options = in_order(
    instance_options,
    together(
        "given",
        ProxyOptions,
        option("--proxyEnable", "enable", callback=true_or_false, help="Whether to use a proxy"),
        option("--proxyUsername", "username", help="Username to use when authenticating with the proxy"),
        option(
            "--proxyPassword", "password", sensitive=True, help="Password to use when authenticating with the proxy"
        ),
        option(
            "--proxyHost", "host", help="The proxy host to use. Leave empty to use the default Internet Explorer proxy"
        ),
        option("--proxyPort", "port", help="The proxy port to use in conjunction with the Host set with proxyHost"),
        # Not the original's: passwords that no process list shows.
        file_option("--proxyPassword", "password", "password"),
        stdin_option("--proxyPassword", "password", "password"),
        credential_option("--proxyPassword", "password", "password"),
    ),
    json_option,
)


@command("proxy")
@_proxy_options
def proxy(session: CommandSession, *, where: InstanceOptions, given: ProxyOptions) -> CommandResult:
    """Without `--proxyEnable=true` the proxy is off."""
    return _set_proxy(session, where, given, polling=False)


@command("polling-proxy")
@_proxy_options
def polling_proxy(session: CommandSession, *, where: InstanceOptions, given: ProxyOptions) -> CommandResult:
    """As `proxy`, for the way to the servers that this Tentacle polls."""
    return _set_proxy(session, where, given, polling=True)


def _set_proxy(session: CommandSession, where: InstanceOptions, given: ProxyOptions, *, polling: bool) -> CommandResult:
    file = session.choose(where)
    order = order_given()
    if given.password_file or given.password_stdin or given.password_credential:
        ways = given.password_file, given.password_stdin, given.password_credential
        password = read_secret(session, SecretOptions("proxy password", given.password, *ways))
        given, order = replace(given, password=password), (*order, "password")
    lines: list[str] = []

    def proxy_in(settings: Settings) -> ProxySettings:
        return settings.polling_proxy if polling else settings.proxy

    def apply(settings: Settings) -> Settings:
        nonlocal lines
        changed, lines = changed_proxy(proxy_in(settings), given, order)
        return replace(settings, polling_proxy=changed) if polling else replace(settings, proxy=changed)

    changed = proxy_in(file.update(apply))
    _warn_of_unused_parts(given, order)
    document = {
        "UseDefaultProxy": changed.use_default,
        "ProxyHost": changed.host,
        "ProxyPort": changed.port,
        "ProxyUsername": changed.username,
        "ProxyPasswordSet": changed.password is not None,
    }
    return CommandResult(tuple(lines), changed=True, document=document)


def changed_proxy(proxy: ProxySettings, given: ProxyOptions, order: Sequence[str]) -> tuple[ProxySettings, list[str]]:
    """`proxy` after the options in the `order` of the command line, and the lines that say so.

    Without `--proxyEnable=true` the proxy is off; its user, password and port stay for the next time.
    """
    lines: list[str] = []
    host_seen = False
    for name in dict.fromkeys(order):
        match name:
            case "username":
                proxy = replace(proxy, username=given.username or None)
                lines.append(f"Proxy username set to: {given.username}" if given.username else "Proxy username cleared")
            case "password":
                proxy = replace(proxy, password=given.password or None)
                lines.append("Proxy password set to: *******" if given.password else "Proxy password cleared")
            case "host":
                host_seen = True
            case "port":
                port = parse_port(given.port, "--proxyPort") if (given.port or "").strip() else DEFAULT_PROXY_PORT
                proxy = replace(proxy, port=port)
                lines += [f"Proxy port set to: {proxy.port}"] if host_seen else []
    host = _host_in(given.host or "") if given.enable else None
    if host:
        return replace(proxy, use_default=False, host=host), [*lines, f"Using custom proxy at: {host}"]
    line = "Using Internet Explorer Proxy" if given.enable else "Proxy use is disabled"
    return replace(proxy, use_default=bool(given.enable), host=None), [*lines, line]


def _warn_of_unused_parts(given: ProxyOptions, order: Sequence[str]) -> None:
    """Warns of a port or a user in a URL in `--proxyHost`, which have no effect, as in the original."""
    try:
        parts = _read(given.host or "")
        port, user = parts.port, parts.username
    except ValueError:
        return
    if given.enable and port is not None and "port" not in order:
        warn_loudly(f"The port in --proxyHost does not count. If you meant it, add --proxyPort={port}")
    if given.enable and user and "username" not in order:
        warn_loudly("The user name in --proxyHost does not count. Use --proxyUsername and --proxyPasswordFile")


def _read(given: str) -> SplitResult:
    """The parts of a host or a URL.  Raises `ValueError`."""
    text = given.strip()
    return urlsplit(text if "://" in text else f"//{text}")


def _host_in(given: str) -> str | None:
    """The host in what was given, which may be a whole URL; None when nothing was given."""
    text = given.strip()
    if not text:
        return None
    with suppress(ValueError):
        return f"[{ipaddress.IPv6Address(text)}]"
    try:
        host = _read(text).hostname
    except ValueError:
        host = None
    if not host or not host.isprintable() or " " in host:
        raise InvalidValue(
            f"The proxy host '{given.rpartition('@')[2]}' is not a host name.", hint="e.g. --proxyHost=proxy.local"
        )
    return f"[{host}]" if ":" in host else host
