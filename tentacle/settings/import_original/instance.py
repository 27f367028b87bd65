"""An existing instance of the original Octopus Tentacle: its settings as ours, and what has no use here.

The door of this folder.  Knows the original's keys and their types (docs/spec/command-line.md, "Settings" and
"Trusted servers" and "Original secrets").  Reads, and never writes, files of the old instance.  Must not know where the
new one will be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tentacle.disk import read_bytes
from tentacle.records import dataclass
from tentacle.settings.certificate_files import load_base64
from tentacle.settings.errors import CertificateError, ConfigurationError, SettingsError
from tentacle.settings.import_original.secrets import CannotOpen, OriginalSecrets, base64_text, readable
from tentacle.settings.import_original.xml import OriginalValues, parse_configuration
from tentacle.settings.keys import KEYS, Key, ValueKind
from tentacle.settings.model import CommunicationStyle, Settings
from tentacle.settings.ports import LARGEST_PORT
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.settings.trust import Servers, parse_servers, same_thumbprint

MACHINE_ID: Final = Path("/etc/machine-id")
MACHINE_KEY: Final = Path("/etc/octopus/machinekey")

HOME: Final = KEYS["home"]
CERTIFICATE: Final = "Tentacle.Certificate"
THUMBPRINT: Final = "Tentacle.CertificateThumbprint"
SERVERS: Final = "Tentacle.Communication.TrustedOctopusServers"
SQUID: Final = "Octopus.Communications.Squid"
SCALARS: Final = tuple(key for key in KEYS.values() if not key.ours)
TAKEN: Final = frozenset(
    name.lower() for name in (CERTIFICATE, THUMBPRINT, SERVERS, SQUID, *(key.dotted for key in SCALARS))
)
LARGEST_NUMBER: Final = 2**31 - 1
KUBERNETES: Final = frozenset({CommunicationStyle.KUBERNETES, CommunicationStyle.KUBERNETES_TENTACLE})


@dataclass(frozen=True)
class Original:
    """An instance of the original.

    `settings` have no home; `home` is the old one's, absolute.  `certificate_key` names the key that opened the
    certificate; it is None where there is no certificate.  `left_out` are the keys that have no use here, as written.
    """

    settings: Settings
    home: Path
    certificate_key: str | None
    left_out: tuple[str, ...]


def read_original(path: Path, *, machine_id: Path = MACHINE_ID, machine_key: Path = MACHINE_KEY) -> Original:
    """Returns the instance whose configuration is at `path`; its secrets are opened with the keys in the two files.

    Raises `ConfigurationError` in one line for whatever is missing, damaged or foreign, and `DiskError`.
    """
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise ConfigurationError(
            f"The configuration file at {path} could not be located at the specified location."
        ) from None
    original = _OriginalFile(parse_configuration(data, path), path, OriginalSecrets(machine_id, machine_key))
    servers = original.servers()
    if any(server.style in KUBERNETES for server in servers):
        raise ConfigurationError(
            f"'{path}' is the configuration of a Kubernetes agent, which is not for this kind of host.",
            hint="Nothing was changed.  Register this machine as a worker of its own: Tentacle init",
        )
    certificate, certificate_key = original.certificate()
    settings = Settings(servers=servers, certificate=certificate)
    for key in SCALARS:
        value = None if key is HOME else original.scalar(key)
        if value is not None:
            settings = key.put(settings, value)
    home = path.absolute().parent / (original.scalar(HOME) or "")
    left_out = tuple(name for name in original.values if name.lower() not in TAKEN)
    return Original(settings, home, certificate_key, left_out)


class _OriginalFile:
    """The values of one file with their types; every error names the file and the key, and never shows a secret."""

    def __init__(self, values: OriginalValues, source: Path, secrets: OriginalSecrets) -> None:
        self.values = values
        self._source = source
        self._secrets = secrets

    def _wrong(self, name: str, problem: str, *, hint: str | None = None) -> ConfigurationError:
        return ConfigurationError(f"The configuration file '{self._source}' is wrong: {name} {problem}.", hint=hint)

    def scalar(self, key: Key) -> Any:
        """Returns the value of `key`, or None where the file does not say."""
        text = self.values.text(key.dotted)
        if text is None:
            return None
        match key.kind:
            case ValueKind.TEXT:
                return text
            case ValueKind.PATH:
                return Path(text)
            case ValueKind.PORT:
                port = self._whole(key.dotted, text)
                if port > LARGEST_PORT:
                    raise self._wrong(key.dotted, f"must be a port, and {port} is none")
                return port
            case ValueKind.COUNT:
                return self._whole(key.dotted, text) or None
            case ValueKind.FLAG:
                word = text.strip().lower()
                if word not in ("true", "false"):
                    raise self._wrong(key.dotted, f"must be true or false, not {word!r:.40}")
                return word == "true"
            case ValueKind.SECRET:
                try:
                    return self._secrets.open(text, readable)[0]
                except CannotOpen as error:
                    raise self._wrong(key.dotted, error.message, hint=error.hint) from None
            case ValueKind.SYNTAX:
                try:
                    return key.parse(text)
                except SettingsError as error:
                    raise self._wrong(key.dotted, error.message) from None

    def _whole(self, name: str, text: str) -> int:
        digits = text.strip().strip('"')
        if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(LARGEST_NUMBER))):
            raise self._wrong(name, f"must be a whole number, not {text.strip()!r:.40}")
        return int(digits)

    def certificate(self) -> tuple[StoredCertificate | None, str | None]:
        """Returns the identity and the name of the key that opened it; like the original, none without a thumbprint."""
        expected, sealed = self.values.text(THUMBPRINT), self.values.text(CERTIFICATE)
        if expected is None:
            return None, None
        if sealed is None:
            raise self._wrong(CERTIFICATE, f"is missing, but {THUMBPRINT} is there")
        try:
            text, key = self._secrets.open(sealed, base64_text)
            found = load_base64(text)
        except CannotOpen as error:
            raise self._wrong(CERTIFICATE, error.message, hint=error.hint) from None
        except CertificateError as error:
            raise self._wrong(CERTIFICATE, f"was decrypted but cannot be used: {error.message.rstrip('.')}") from None
        if not same_thumbprint(found.thumbprint, expected):
            raise self._wrong(THUMBPRINT, f"is {expected.strip()!r:.60}, but the certificate's is {found.thumbprint}")
        return found, key.source

    def servers(self) -> Servers:
        """Returns the trusted servers.

        A polled server of the first days has no subscription of its own: it is called by an older name, the squid.
        """
        text = self.values.text(SERVERS)
        if text is None:
            return ()
        try:
            servers = parse_servers(text)
        except SettingsError as error:
            raise self._wrong(SERVERS, error.message) from None
        squids = [_squid(entry) or self.values.text(SQUID) for entry in json.loads(text)]
        return tuple(
            replace(server, subscription_id=f"poll://{squid.strip().lower()}/")
            if squid and server.style is CommunicationStyle.TENTACLE_ACTIVE and not server.subscription_id
            else server
            for server, squid in zip(servers, squids, strict=True)
        )


def _squid(entry: Mapping[str, Any]) -> str | None:
    found = next((value for name, value in entry.items() if name.lower() == "squid"), None)
    return found if isinstance(found, str) and found.strip() else None
