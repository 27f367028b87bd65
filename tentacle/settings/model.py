"""The settings of one instance, as frozen values.

Knows names, types and defaults (docs/spec/command-line.md, "Settings").  Must not know how they are stored, or where.
"""

from __future__ import annotations

import enum
from dataclasses import field
from pathlib import Path

from tentacle.records import dataclass
from tentacle.settings.errors import SettingsError
from tentacle.settings.logs import LogSettings
from tentacle.settings.monitor import MonitorAddress
from tentacle.settings.plain_home import home_seen_from
from tentacle.settings.reported_version import COMPATIBLE_WITH
from tentacle.settings.scripts import ScriptSettings
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.thumbprints import clean_thumbprint

DEFAULT_PORT = 10933
DEFAULT_PROXY_PORT = 80
DEFAULT_APPLICATION_DIRECTORY = Path("/home/Octopus/Applications")


class CommunicationStyle(enum.IntEnum):
    """Who calls whom.  Only the first three concern a Tentacle; the rest are read and kept (docs/spec/command-line.md,
    "Trusted servers").
    """

    NONE = 0
    TENTACLE_PASSIVE = 1
    """The server calls us: we listen."""
    TENTACLE_ACTIVE = 2
    """We call the server: we poll."""
    SSH = 3
    OFFLINE_DROP = 4
    AZURE_WEB_APP = 5
    FTP = 6
    AZURE_CLOUD_SERVICE = 7
    AZURE_SERVICE_FABRIC_CLUSTER = 8
    KUBERNETES = 9
    STEP_PACKAGE = 10
    KUBERNETES_TENTACLE = 11
    AWS_ECS_CLUSTER = 12

    @property
    def label(self) -> str:
        """The original's spelling, e.g. `TentaclePassive`."""
        return "".join(word.capitalize() for word in self.name.split("_"))

    @classmethod
    def parse(cls, text: str) -> CommunicationStyle | None:
        """Returns the style that `text` names (`tentacleactive`, `2`), or None.

        Case and blanks around do not matter.
        """
        wanted = text.strip()
        if wanted.isascii() and wanted.isdigit():
            return next((style for style in cls if str(style.value) == (wanted.lstrip("0") or "0")), None)
        return next((style for style in cls if style.label.lower() == wanted.lower()), None)


@dataclass(frozen=True)
class TrustedServer:
    """A server that may command us, known by the SHA-1 thumbprint of its certificate; one that was pasted is cleaned.

    `address` is set where we poll it, as given (`https://host:10943`, `wss://...`); `subscription_id` is the
    `poll://.../` under which it queues for us.  With `https` requests by HTTPS poll it there (docs/spec/https.md,
    "Polling"), instead of Halibut; `ca_file` is then who vouches for the certificate at the address, where it is not
    the server's own.  Raises `SettingsError` for a blank thumbprint.
    """

    thumbprint: str
    style: CommunicationStyle
    address: str | None = None
    subscription_id: str | None = None
    https: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        clean = clean_thumbprint(self.thumbprint)
        if not clean:
            raise SettingsError("A valid thumbprint must be supplied.", hint="e.g. --trust=THUMBPRINT")
        object.__setattr__(self, "thumbprint", clean)


@dataclass(frozen=True)
class ProxySettings:
    """How to reach a server: by the environment's proxy (`use_default`), by `host`:`port`, or else directly."""

    use_default: bool = True
    host: str | None = None
    port: int = DEFAULT_PROXY_PORT
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def custom_host(self) -> str | None:
        """The host of a proxy that was set for this instance, without brackets; `None` when another way is taken."""
        host = (self.host or "").strip().strip("[]")
        return None if self.use_default or not host else host


@dataclass(frozen=True)
class Settings:
    """Everything that one instance is set up with.

    `home` is kept as it was given, see `resolved_home`.  `listen_ip` of None is every address;
    `polling_connection_count` of None is the agent's default.  Scripts are told of `proxy`; polling, and the
    registration of a polling Tentacle, go by `polling_proxy`.  `legacy_ciphers` lets servers on old systems use TLS
    ciphers without forward secrecy or authenticated encryption.  Without `monitor` nobody can watch the agent there.
    Servers and scripts are told that the agent is of the `reported_version`.

    `certificate` is the identity that servers know.  While it is being replaced there is one more, never both:
    `next_certificate` until the servers have been told of it, then `previous_certificate` until all know the new one.
    """

    home: Path | None = None
    application_directory: Path = DEFAULT_APPLICATION_DIRECTORY
    port: int = DEFAULT_PORT
    listen_ip: str | None = None
    no_listen: bool = False
    servers: tuple[TrustedServer, ...] = ()
    polling_connection_count: int | None = None
    certificate: StoredCertificate | None = None
    next_certificate: StoredCertificate | None = None
    previous_certificate: StoredCertificate | None = None
    proxy: ProxySettings = field(default_factory=ProxySettings)
    polling_proxy: ProxySettings = field(default_factory=ProxySettings)
    scripts: ScriptSettings = field(default_factory=ScriptSettings)
    logs: LogSettings = field(default_factory=LogSettings)
    legacy_ciphers: bool = False
    monitor: MonitorAddress | None = None
    reported_version: str = COMPATIBLE_WITH


def other_certificate(settings: Settings) -> StoredCertificate | None:
    """Returns the identity that some servers may know besides `certificate`; None unless one is being replaced."""
    return settings.next_certificate or settings.previous_certificate


def resolved_home(settings: Settings, config_path: Path) -> Path:
    """Returns the absolute home directory; it is seen from the configuration's directory, which is the default."""
    return home_seen_from(config_path, settings.home)
