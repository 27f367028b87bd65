"""The table of scalar settings: one row is all that the program knows about one, besides its field in the model.

The configuration file, the environment, the import of an original instance, `show-configuration`, `configure` and a
running agent walk this table.  Knows names, kinds and texts for people.  Must not know a file or an option parser.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tentacle.records import dataclass
from tentacle.settings import logs, scripts
from tentacle.settings.errors import SettingsError
from tentacle.settings.model import Settings
from tentacle.settings.monitor import MONITOR
from tentacle.settings.ports import LARGEST_PORT
from tentacle.settings.reported_version import COMPATIBLE_WITH, REPORTED_VERSION
from tentacle.settings.scripts import Syntax

_CIPHERS: Final = ("strong", "legacy")
_TLS_CIPHERS: Final = Syntax(
    lambda text: scripts.one_of(_CIPHERS, text) == "legacy", lambda legacy: _CIPHERS[bool(legacy)]
)
POLLING_COUNT_EXAMPLE: Final = "e.g. --pollingConnectionCount=5"


class ValueKind(enum.Enum):
    """What a value is in Python, and so how it is read from a file, a variable or an option and written again."""

    TEXT = enum.auto()
    PATH = enum.auto()
    PORT = enum.auto()
    COUNT = enum.auto()
    """A whole number above 0, or None; the original writes 0 for none."""
    FLAG = enum.auto()
    SECRET = enum.auto()
    """A text that is sealed in the file, and never shown."""
    SYNTAX = enum.auto()
    """Written as a text, and understood by the `syntax` of the key."""


@dataclass(frozen=True)
class Key:
    """One scalar setting.  Its default is that of its field in the model.

    `name` is its key in the file (`section.key` where it lies in a section) and `field` its place in `Settings`,
    which follows from the name unless it is given.  `dotted` is its place in the tree of `show-configuration`, and the
    original's name for it unless it is `ours`: settings of ours are written and shown only where one differs from its
    default.  `variable` is the environment variable that overrides it.

    `configure` has the `options` for it; `check` turns what was given into a value, or raises `TentacleError`; `line`
    is what is said of a new value.  A path with a `directory_mode` is made.  `at_once` is whether a running agent
    takes a change up without a restart, and `words` what its log calls the setting where the field does not say it.
    """

    name: str
    kind: ValueKind
    dotted: str
    field: str = ""
    syntax: Syntax | None = None
    ours: bool = False
    shown: bool = True
    variable: str | None = None
    options: tuple[str, ...] = ()
    help: str = ""
    check: Callable[[Any], Any] = lambda value: value
    line: Callable[[Any], str] = str
    directory_mode: int | None = None
    at_once: bool = False
    words: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", self.field or self.identifier)

    @property
    def identifier(self) -> str:
        """The name as Python writes it."""
        return self.name.replace("-", "_")

    def get(self, settings: Settings) -> Any:
        """Returns the value in `settings`."""
        return functools.reduce(getattr, self.field.split("."), settings)

    def put(self, settings: Settings, value: Any) -> Settings:
        """Returns `settings` with another value."""
        outer, _, inner = self.field.partition(".")
        changed: Any = replace(getattr(settings, outer), **{inner: value}) if inner else value
        return replace(settings, **{outer: changed})

    def is_default(self, settings: Settings) -> bool:
        """Whether the value in `settings` is the default."""
        return bool(self.get(settings) == self.get(Settings()))

    def parse(self, text: str) -> Any:
        """Returns the value that `text` means by the key's syntax.  Raises `SettingsError` with a `must be ...`."""
        assert self.syntax is not None, self.name
        return self.syntax.parse(text.strip())

    def text(self, value: Any) -> Any:
        """Returns a value as it is shown and, unless it is a secret, written: a text, a number or a truth value."""
        if self.kind is ValueKind.PATH and value is not None:
            return str(value)
        return self.syntax.text(value) if self.syntax else value


def listen_address(given: str) -> str | None:
    """Returns the IP address in `given`, or None for `any`."""
    if given.strip().lower() == "any":
        return None
    try:
        return str(ipaddress.ip_address(given.strip().strip("[]")))
    except ValueError:
        raise SettingsError(
            f"'{given}' is not an IP address.", hint="e.g. --listenIpAddress=192.168.0.10, or any"
        ) from None


def listen_port(port: int) -> int:
    """Returns `port` unless it is none; 0 lets the system choose."""
    if not 0 <= port <= LARGEST_PORT:
        raise SettingsError(f"{port} is not a port.", hint=f"Give one from 1 to {LARGEST_PORT}, e.g. --port=10933")
    return port


def polling_count(given: str) -> int:
    """Returns the number of polling connections in `given` (docs/spec/command-line.md,
    "set-polling-connection-count").
    """
    digits = given.strip()
    if not digits:
        raise SettingsError(f"Please specify the number of polling connections, {POLLING_COUNT_EXAMPLE}")
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", digits):
        raise SettingsError(
            f"The polling connection count '{given}' is not a valid whole number. "
            f"Specify a positive integer, {POLLING_COUNT_EXAMPLE}"
        )
    if int(digits) <= 0:
        raise SettingsError(
            f"The polling connection count must be greater than 0, but was {int(digits)}.", hint=POLLING_COUNT_EXAMPLE
        )
    return int(digits)


def _proxy_keys(section: str, original: str, variables: tuple[str, str, str, str, str], *, at_once: bool) -> list[Key]:
    rows = (
        ("use-default", ValueKind.FLAG, "UseDefaultProxy"),
        ("host", ValueKind.TEXT, "ProxyHost"),
        ("port", ValueKind.PORT, "ProxyPort"),
        ("username", ValueKind.TEXT, "ProxyUsername"),
        ("password", ValueKind.SECRET, "ProxyPassword"),
    )
    return [
        Key(f"{section}.{name}", kind, f"{original}.{theirs}", shown=False, variable=variable, at_once=at_once)
        for (name, kind, theirs), variable in zip(rows, variables, strict=True)
    ]


def _our_key(name: str, syntax: Syntax, help_text: str, field: str = "", *, kind: str, section: str, words: str) -> Key:
    """A setting that the original does not have, called `KIND-NAME` here, in the file and as an option."""
    return Key(
        f"{kind}-{name}",
        ValueKind.SYNTAX,
        f"{section}.{''.join(word.capitalize() for word in name.split('-'))}",
        field=f"{kind}s.{field or name.replace('-', '_')}",
        syntax=syntax,
        ours=True,
        options=(f"--{kind}-{name}",),
        help=help_text,
        line=lambda value: f"{kind.capitalize()} {name.replace('-', ' ')} set to: {syntax.text(value)}",
        words=words,
    )


_script_key = functools.partial(_our_key, kind="script", section="Tentacle.Scripts", words="the script settings")
_log_key = functools.partial(_our_key, kind="log", section="Tentacle.Log", words="the settings of the log")


_ROWS: Final = (
    Key(
        "home",
        ValueKind.PATH,
        "Octopus.Home",
        variable="OCTOPUS_HOME",
        options=("--home", "--homedir"),
        help="Home directory",
        line="Home directory set to: {}".format,
        directory_mode=0o700,
    ),
    Key(
        "application-directory",
        ValueKind.PATH,
        "Tentacle.Deployment.ApplicationDirectory",
        variable="TENTACLE_APPLICATION_DIRECTORY",
        options=("--app", "--appdir"),
        help="Default directory to deploy applications to",
        line="Application directory set to: {}".format,
        directory_mode=0o755,
    ),
    Key(
        "port",
        ValueKind.PORT,
        "Tentacle.Services.PortNumber",
        variable="TENTACLE_SERVICE_PORT",
        options=("--port",),
        help="TCP port on which Tentacle should listen to connections",
        check=listen_port,
        line="Services listen port: {}".format,
    ),
    Key(
        "no-listen",
        ValueKind.FLAG,
        "Tentacle.Services.NoListen",
        variable="TENTACLE_NO_LISTEN",
        options=("--noListen",),
        help="Suppress listening on a TCP port (intended for polling Tentacles only)",
        line=lambda no: "Tentacle will not listen on a port" if no else "Tentacle will listen on a TCP port",
        words="whether to listen",
    ),
    Key(
        "listen-ip",
        ValueKind.TEXT,
        "Tentacle.Services.ListenIP",
        variable="TENTACLE_LISTEN_IP",
        options=("--listenIpAddress",),
        help="IP address on which Tentacle should listen. Default: any",
        check=listen_address,
        line=lambda address: f"Listen on IP address: {address}" if address else "Listen on any IP address",
        words="the address to listen on",
    ),
    Key(
        "polling-connection-count",
        ValueKind.COUNT,
        "Tentacle.Communication.PollingConnectionCount",
        options=("--pollingConnectionCount",),
        help="The number of polling connections this Tentacle should open to each Octopus Server it polls. Only applies"
        " to polling Tentacles.",
        check=polling_count,
        line="Polling connection count set to: {}".format,
        at_once=True,
    ),
    *_proxy_keys(
        "proxy",
        "Octopus.Proxy",
        (
            "OCTOPUS_USE_DEFAULT_PROXY",
            "OCTOPUS_PROXY_HOST",
            "OCTOPUS_PROXY_PORT",
            "OCTOPUS_PROXY_USER",
            "OCTOPUS_PROXY_PASSWORD",
        ),
        at_once=False,
    ),
    *_proxy_keys(
        "polling-proxy",
        "Octopus.Server.Proxy",
        (
            "TENTACLE_POLLING_USE_DEFAULT_PROXY",
            "TENTACLE_POLLING_CUSTOM_PROXY_HOST",
            "TENTACLE_POLLING_CUSTOM_PROXY_PORT",
            "TENTACLE_POLLING_CUSTOM_PROXY_USER",
            "TENTACLE_POLLING_CUSTOM_PROXY_PASSWORD",
        ),
        at_once=True,
    ),
    Key(
        "tls-ciphers",
        ValueKind.SYNTAX,
        "Tentacle.Tls.Ciphers",
        field="legacy_ciphers",
        syntax=_TLS_CIPHERS,
        ours=True,
        options=("--tls-ciphers",),
        help="Which ciphers TLS 1.2 may use: strong (forward secrecy and authenticated encryption), or legacy, which "
        "adds what Octopus Servers on old systems need. Default: strong",
        line=lambda legacy: f"TLS ciphers set to: {_TLS_CIPHERS.show(legacy)}",
        words="the TLS ciphers",
    ),
    _script_key(
        "isolation",
        scripts.SANDBOX,
        "How scripts are kept apart: none, private (own /tmp, other workspaces hidden) or user (a user of its own "
        "for each, other processes hidden). Default: none",
        field="sandbox",
    ),
    _script_key("memory-limit", scripts.MEMORY, "Memory that one script may use, e.g. 512M or 2G. Default: none"),
    _script_key("cpu-limit", scripts.CPU, "Processors that one script may use, e.g. 1.5 or 150%. Default: none"),
    _script_key("task-limit", scripts.TASKS, "Processes and threads that one script may have. Default: none"),
    _script_key("uid-range", scripts.UIDS, "Users for --script-isolation=user, e.g. 20000-20999, which is the default"),
    _log_key("file-size", logs.FILE_SIZE, "Size at which a new log file begins, as one does every day. Default: 100M"),
    _log_key("files-kept", logs.FILES_KEPT, "Number of old log files that are kept. Default: 7"),
    _log_key("format", logs.FORMAT, "How the agent's log looks: text, or json, one object a line. Default: text"),
    Key(
        "monitor",
        ValueKind.SYNTAX,
        "Tentacle.Monitor.Address",
        syntax=MONITOR,
        ours=True,
        options=("--monitor",),
        help="Loopback address or Unix socket on which /healthz, /readyz, /metrics and /status are served, e.g. "
        "127.0.0.1:9113 or unix:/run/tentacle-monitor/monitor.sock. Default: none",
        line=lambda address: f"The agent can be watched at: {MONITOR.text(address)}",
        words="where it can be watched",
    ),
    Key(
        "reported-version",
        ValueKind.SYNTAX,
        "Tentacle.Version.Reported",
        syntax=REPORTED_VERSION,
        ours=True,
        options=("--reported-version",),
        help="The version of the original Tentacle that servers and scripts are told, since they compare it. Default: "
        f"{COMPATIBLE_WITH}",
        line="Servers and scripts are told version: {}".format,
        words="the version that servers are told",
    ),
)
KEYS: Final[dict[str, Key]] = {key.name: key for key in _ROWS}
"""By name, in the order of the file, of help and of what is said."""
