"""An existing instance of the original Octopus Tentacle, understood: its settings as ours, and what is left over.

Knows the original's keys and their types (tentacle-cli.md 4.4 to 4.6).  Reads, and never writes, anything of the old
instance.  Must not know where the new one will be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tentacle.disk import read_bytes
from tentacle.settings.certificates import StoredCertificate, load_base64
from tentacle.settings.errors import CertificateError, ConfigurationError, SettingsError
from tentacle.settings.import_original.secrets import CannotOpen, Opener, base64_text, readable
from tentacle.settings.import_original.xml import Values, parse_configuration
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings, TrustedServer
from tentacle.settings.trust import Servers, parse_servers, same_thumbprint

HOME: Final = "Octopus.Home"
CERTIFICATE: Final = "Tentacle.Certificate"
THUMBPRINT: Final = "Tentacle.CertificateThumbprint"
SERVERS: Final = "Tentacle.Communication.TrustedOctopusServers"
POLLING_COUNT: Final = "Tentacle.Communication.PollingConnectionCount"
APPLICATIONS: Final = "Tentacle.Deployment.ApplicationDirectory"
PORT: Final = "Tentacle.Services.PortNumber"
LISTEN_IP: Final = "Tentacle.Services.ListenIP"
NO_LISTEN: Final = "Tentacle.Services.NoListen"
SQUID: Final = "Octopus.Communications.Squid"
PROXY: Final = "Octopus.Proxy"
POLLING_PROXY: Final = "Octopus.Server.Proxy"
PROXY_KEYS: Final = ("UseDefaultProxy", "ProxyHost", "ProxyPort", "ProxyUsername", "ProxyPassword")

TAKEN: Final = frozenset(
    key.lower()
    for key in (
        *(HOME, CERTIFICATE, THUMBPRINT, SERVERS, POLLING_COUNT, APPLICATIONS, PORT, LISTEN_IP, NO_LISTEN, SQUID),
        *(f"{proxy}.{key}" for proxy in (PROXY, POLLING_PROXY) for key in PROXY_KEYS),
    )
)
LARGEST_NUMBER: Final = 2**31 - 1
LARGEST_PORT: Final = 65535
KUBERNETES: Final = frozenset({CommunicationStyle.KUBERNETES, CommunicationStyle.KUBERNETES_TENTACLE})


@dataclass(frozen=True)
class Original:
    """What was found.

    `settings` have no home; `home` is the old one's, absolute.  `certificate_key` says what opened the certificate,
    None where there is none.  `left_out` are the keys that have no use here, as they are written.
    """

    settings: Settings
    home: Path
    certificate_key: str | None
    left_out: tuple[str, ...]


def read_original(path: Path, opener: Opener) -> Original:
    """The instance whose configuration is at `path`; its secrets are opened with `opener`.

    Raises `ConfigurationError` or another `SettingsError` in one line for whatever is missing, damaged or foreign.
    """
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise ConfigurationError(
            f"The configuration file at {path} could not be located at the specified location."
        ) from None
    values = _Typed(parse_configuration(data, path), path)
    servers = _servers(values)
    if any(server.style in KUBERNETES for server in servers):
        raise ConfigurationError(
            f"'{path}' is the configuration of a Kubernetes agent, which is not for this kind of host.",
            hint="Nothing was changed.  Register this machine as a worker of its own: Tentacle init",
        )
    certificate, key = _certificate(values, opener)
    settings = Settings(
        application_directory=values.path(APPLICATIONS) or Settings().application_directory,
        port=values.port(PORT, Settings().port),
        listen_ip=values.text(LISTEN_IP),
        no_listen=values.flag(NO_LISTEN, default=False),
        servers=servers,
        polling_connection_count=values.whole(POLLING_COUNT, 0) or None,
        certificate=certificate,
        proxy=_proxy(values, PROXY, opener),
        polling_proxy=_proxy(values, POLLING_PROXY, opener),
    )
    left_out = tuple(name for name in values.names if name.lower() not in TAKEN)
    return Original(settings, path.absolute().parent / (values.path(HOME) or ""), key, left_out)


class _Typed:
    """The values of one file with their types; every error names the file and the key, and never shows a secret."""

    def __init__(self, values: Values, source: Path) -> None:
        self._values = values
        self._source = source
        self.names = tuple(values)

    def wrong(self, key: str, problem: str, *, hint: str | None = None) -> ConfigurationError:
        return ConfigurationError(f"The configuration file '{self._source}' is wrong: {key} {problem}.", hint=hint)

    def text(self, key: str) -> str | None:
        return self._values.text(key)

    def path(self, key: str) -> Path | None:
        text = self.text(key)
        return Path(text) if text else None

    def flag(self, key: str, *, default: bool) -> bool:
        word = (self.text(key) or str(default)).strip().lower()
        if word not in ("true", "false"):
            raise self.wrong(key, f"must be true or false, not {word!r:.40}")
        return word == "true"

    def whole(self, key: str, default: int) -> int:
        text = self.text(key)
        if text is None:
            return default
        digits = text.strip().strip('"')
        if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(LARGEST_NUMBER))):
            raise self.wrong(key, f"must be a whole number, not {text.strip()!r:.40}")
        return int(digits)

    def port(self, key: str, default: int) -> int:
        number = self.whole(key, default)
        if number > LARGEST_PORT:
            raise self.wrong(key, f"must be a port, and {number} is none")
        return number

    def secret(self, key: str, opener: Opener) -> str | None:
        sealed = self.text(key)
        if sealed is None:
            return None
        try:
            return opener.open(sealed, readable)[0]
        except CannotOpen as error:
            raise self.wrong(key, error.message, hint=error.hint) from None


def _certificate(values: _Typed, opener: Opener) -> tuple[StoredCertificate | None, str | None]:
    """The identity and what opened it; without a thumbprint there is none, as for the original."""
    expected, sealed = values.text(THUMBPRINT), values.text(CERTIFICATE)
    if expected is None:
        return None, None
    if sealed is None:
        raise values.wrong(CERTIFICATE, f"is missing, but {THUMBPRINT} is there")
    try:
        text, key = opener.open(sealed, base64_text)
        found = load_base64(text)
    except CannotOpen as error:
        raise values.wrong(CERTIFICATE, error.message, hint=error.hint) from None
    except CertificateError as error:
        raise values.wrong(CERTIFICATE, f"was decrypted but cannot be used: {error.message.rstrip('.')}") from None
    if not same_thumbprint(found.thumbprint, expected):
        raise values.wrong(THUMBPRINT, f"is {expected.strip()!r:.60}, but the certificate's is {found.thumbprint}")
    return found, key.source


def _servers(values: _Typed) -> Servers:
    text = values.text(SERVERS)
    if text is None:
        return ()
    try:
        servers = parse_servers(text)
    except SettingsError as error:
        raise values.wrong(SERVERS, error.message) from None
    squids = [_squid(entry) or values.text(SQUID) for entry in json.loads(text)]
    return tuple(_with_subscription(server, squid) for server, squid in zip(servers, squids, strict=True))


def _squid(entry: Mapping[str, Any]) -> str | None:
    found = next((value for name, value in entry.items() if name.lower() == "squid"), None)
    return found if isinstance(found, str) and found.strip() else None


def _with_subscription(server: TrustedServer, squid: str | None) -> TrustedServer:
    """A polled server of the first days has no subscription of its own: it is called by the old name."""
    if server.style is not CommunicationStyle.TENTACLE_ACTIVE or server.subscription_id or not squid:
        return server
    return replace(server, subscription_id=f"poll://{squid.strip().lower()}/")


def _proxy(values: _Typed, prefix: str, opener: Opener) -> ProxySettings:
    default = ProxySettings()
    return ProxySettings(
        use_default=values.flag(f"{prefix}.UseDefaultProxy", default=default.use_default),
        host=values.text(f"{prefix}.ProxyHost"),
        port=values.port(f"{prefix}.ProxyPort", default.port),
        username=values.text(f"{prefix}.ProxyUsername"),
        password=values.secret(f"{prefix}.ProxyPassword", opener),
    )
