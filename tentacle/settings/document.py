"""What a configuration file holds: from text to settings, and back.

Keys that it does not know are kept.  An error names line and key, and never shows a secret.  Knows the form of the
document; its scalar settings are in the table of `keys.py`, and YAML is known by `yaml_document.py`.  Must not know
files, key files or locks: the caller hands in how a secret is sealed and unsealed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tentacle.errors import one_line
from tentacle.late_imports import LateModule
from tentacle.records import dataclass
from tentacle.sealing import UnsealError, is_sealed
from tentacle.settings.errors import CORRECT_IT, CertificateError, ConfigurationError, SettingsError
from tentacle.settings.keys import KEYS, Key, ValueKind
from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer
from tentacle.settings.plain_document import read_plain
from tentacle.settings.plain_home import WRITTEN_BY_US
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.settings.trust import same_entry

if TYPE_CHECKING:
    from tentacle.settings import certificates, yaml_document
else:  # cryptography and PyYAML
    certificates = LateModule("tentacle.settings.certificates")
    yaml_document = LateModule("tentacle.settings.yaml_document")

FORMAT = 1
HEADER = f"""\
{WRITTEN_BY_US}, kept by its commands.  Keys that they do not know are kept, comments are not.
# Secrets are sealed with the key in the file beside this one whose name ends with .key: keep the two together.
"""
CERTIFICATES = ("certificate", "next-certificate", "previous-certificate")
SECTIONS = ("proxy", "polling-proxy")
TOP_KEYS = (
    "format",
    "trusted-servers",
    *CERTIFICATES,
    *(name.partition(".")[0] for name in KEYS),
)
SERVER_KEYS = ("thumbprint", "style", "address", "https-address", "ca-file", "subscription-id")
"""One that is polled by HTTPS has `https-address` instead of `address`: versions that know Halibut alone skip it."""
CERTIFICATE_KEYS = ("thumbprint", "certificate", "private-key")

_UNUSABLE = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
"""NUL, and what stands for no byte of a name that is not UTF-8 (PEP 383)."""

SealFunction = Callable[[str, str], str]
"""Of (purpose, text)."""


@dataclass(frozen=True)
class Section:
    """A mapping in the document; it knows its file and lines, to say where something is wrong."""

    source: Path
    lines: Mapping[str, int]
    values: Mapping[Any, Any]
    prefix: str = ""

    def wrong(self, key: str, problem: str, *, hint: str = CORRECT_IT) -> ConfigurationError:
        """Returns the error that says of `key` what is wrong (`must be ...`)."""
        name = f"{self.prefix}{key}"
        line = f" line {self.lines[name]}," if name in self.lines else ""
        return ConfigurationError(
            f"The configuration file '{self.source}',{line} is wrong: {name} {problem}.", hint=hint
        )

    def text(self, key: str) -> str | None:
        """Returns a text, or None when it is missing or blank.  One that is wrong is not shown: it may be a secret."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "must be a text", hint="Put it in quotes.")
        if value and _UNUSABLE.search(value):
            raise self.wrong(key, "holds a character that no path, argument or variable can hold", hint="Remove it.")
        return value if value and value.strip() else None

    def path(self, key: str) -> Path | None:
        """Returns a path, or None when it is missing or blank."""
        value = self.text(key)
        return Path(value) if value else None

    def whole(self, key: str) -> int | None:
        """Returns a whole number, or None when it is missing."""
        value = self.values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self.wrong(key, f"must be a whole number, not {_shown(value)}")
        return value

    def flag(self, key: str) -> bool | None:
        """Returns true or false, or None when it is missing."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, f"must be true or false, not {_shown(value)}")
        return value

    def section(self, key: str) -> Section | None:
        """Returns a mapping inside this one, or None when it is missing."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "must hold keys with values")
        return Section(self.source, self.lines, value, f"{self.prefix}{key}.")

    def sections(self, key: str) -> Iterator[Section]:
        """Yields the mappings of a list inside this one."""
        value = self.values.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            raise self.wrong(key, "must be a list")
        for number, entry in enumerate(value):
            name = f"{key}[{number}]"
            if not isinstance(entry, dict):
                raise self.wrong(name, "must hold keys with values")
            yield Section(self.source, self.lines, entry, f"{self.prefix}{name}.")


def parse(text: str, source: Path) -> Section:
    """Returns the document in `text`; an empty one is an empty mapping.  Raises `ConfigurationError`."""
    values, lines = read_plain(text) or yaml_document.read(text, source)
    document = Section(source, lines, values)
    written = document.whole("format")
    if written is not None and written > FORMAT:
        raise document.wrong("format", f"is {written}, and this version knows up to {FORMAT}", hint="Upgrade first.")
    return document


def holds_sealed(document: Section) -> bool:
    """Whether the document holds a sealed secret, and so cannot be read without its key."""
    values = [document.section(name) for name in (*CERTIFICATES, *SECTIONS)]
    secrets = [section.text(key) for section in values if section for key in ("private-key", "password")]
    return any(secret is not None and is_sealed(secret) for secret in secrets)


def to_settings(document: Section, unseal: SealFunction) -> Settings:
    """Returns the settings in the document, with defaults for what it does not hold.

    Raises `ConfigurationError`, also when `unseal` raises `UnsealError`.
    """
    settings = Settings(
        servers=tuple(_server(section) for section in document.sections("trusted-servers")),
        certificate=_certificate(document.section("certificate"), unseal),
        next_certificate=_certificate(document.section("next-certificate"), unseal),
        previous_certificate=_certificate(document.section("previous-certificate"), unseal),
    )
    for key in KEYS.values():
        value = _scalar(document, key, unseal)
        if value is not None:
            settings = key.put(settings, value)
    return settings


def render(settings: Settings, previous: Section, seal: SealFunction) -> str:
    """Returns the text of a configuration file with `settings`, and with the keys of `previous` that are not ours."""
    alone = {name: key for name, key in KEYS.items() if "." not in name}
    known: dict[str, Any] = {
        "format": FORMAT,
        **{name: _scalar_out(key, settings, seal) for name, key in alone.items() if not key.ours},
        "trusted-servers": _servers_out(settings.servers, previous),
        **{
            name: _certificate_out(getattr(settings, name.replace("-", "_")), previous.section(name), name, seal)
            for name in CERTIFICATES
        },
        **{name: _section_out(name, settings, previous.section(name), seal) for name in SECTIONS},
        **{name: _scalar_out(key, settings, seal) for name, key in alone.items() if key.ours},
    }
    document = _merged(known, previous, TOP_KEYS)
    return HEADER + yaml_document.written(document)


def _shown(value: object) -> str:
    return one_line(ValueError(f"{value!r:.40}"))


def _server(section: Section) -> TrustedServer:
    thumbprint, style = section.text("thumbprint"), section.values.get("style")
    if thumbprint is None:
        raise section.wrong("thumbprint", "must not be blank")
    known = isinstance(style, int | str) and not isinstance(style, bool)
    parsed = CommunicationStyle.NONE if style is None else CommunicationStyle.parse(str(style)) if known else None
    if parsed is None:
        raise section.wrong("style", f"must be TentaclePassive or TentacleActive, not {_shown(style)}")
    https = section.text("https-address")
    if https is not None and section.text("address") is not None:
        raise section.wrong("https-address", "cannot be there beside an address")
    return TrustedServer(
        thumbprint,
        parsed,
        section.text("address") if https is None else https,
        section.text("subscription-id"),
        https is not None,
        section.text("ca-file"),
    )


def _secret(section: Section, key: str, unseal: SealFunction) -> str | None:
    """Returns a secret; one that a person wrote in plain text is taken as it is, and sealed at the next write."""
    value = section.text(key)
    if value is None or not is_sealed(value):
        return value
    try:
        return unseal(f"{section.prefix}{key}", value)
    except UnsealError as error:
        problem = f"{error}: it was changed, or sealed with another key"
        raise section.wrong(key, problem, hint="Restore the key file that belongs to this configuration.") from None


def _certificate(section: Section | None, unseal: SealFunction) -> StoredCertificate | None:
    if section is None:
        return None
    certificate, key = section.text("certificate"), _secret(section, "private-key", unseal)
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "certificate" if certificate is None else "private-key"
        raise section.wrong(missing, "is missing")
    try:
        stored = certificates.from_pem(certificate.encode("utf-8", "replace"), key.encode("utf-8", "replace"))
    except CertificateError as error:
        raise section.wrong("certificate", f"cannot be used ({error.message})") from None
    noted = section.text("thumbprint")
    if noted is not None and noted.strip().upper() != stored.thumbprint:
        raise section.wrong("thumbprint", f"is not that of the certificate, which is {stored.thumbprint}")
    return stored


def _scalar(document: Section, key: Key, unseal: SealFunction) -> Any:
    """Returns the value of `key`, or None where the document does not say."""
    section_name, _, name = key.name.rpartition(".")
    section = document.section(section_name) if section_name else document
    if section is None:
        return None
    match key.kind:
        case ValueKind.TEXT:
            return section.text(name)
        case ValueKind.PATH:
            return section.path(name)
        case ValueKind.PORT | ValueKind.COUNT:
            return section.whole(name)
        case ValueKind.FLAG:
            return section.flag(name)
        case ValueKind.SECRET:
            return _secret(section, name, unseal)
        case ValueKind.SYNTAX:
            value = section.values.get(name)
            try:
                return None if value is None else key.parse(str(value))
            except SettingsError as error:
                raise section.wrong(name, error.message) from None


def _scalar_out(key: Key, settings: Settings, seal: SealFunction) -> Any:
    """Returns what is written for `key`, or None for nothing."""
    value = key.get(settings)
    if value is None or (key.ours and key.is_default(settings)):
        return None
    return seal(key.name, value) if key.kind is ValueKind.SECRET else key.text(value)


def _merged(known: Mapping[str, Any], previous: Section | None, ours: tuple[str, ...]) -> dict[Any, Any]:
    """Returns what is set of `known`, then what is in `previous` under names that are not ours."""
    kept = {} if previous is None else {k: v for k, v in previous.values.items() if k not in ours}
    return {**{name: value for name, value in known.items() if value is not None}, **kept}


def _servers_out(servers: tuple[TrustedServer, ...], previous: Section) -> list[dict[Any, Any]] | None:
    before = [(_server(section), section) for section in previous.sections("trusted-servers")]
    written = []
    for server in servers:
        known = {
            "thumbprint": server.thumbprint,
            "style": server.style.label,
            ("https-address" if server.https else "address"): server.address,
            "ca-file": server.ca_file,
            "subscription-id": server.subscription_id,
        }
        entry = next((section for old, section in before if same_entry(old, server)), None)
        written.append(_merged(known, entry, SERVER_KEYS))
    return written or None


def _certificate_out(stored: StoredCertificate | None, previous: Section | None, name: str, seal: SealFunction) -> Any:
    if stored is None:
        return _merged({}, previous, CERTIFICATE_KEYS) or None
    known = {
        "thumbprint": stored.thumbprint,
        "certificate": yaml_document.Block(stored.certificate_pem.decode("ascii")),
        "private-key": seal(f"{name}.private-key", stored.key_pem.decode("ascii")),
    }
    return _merged(known, previous, CERTIFICATE_KEYS)


def _section_out(name: str, settings: Settings, previous: Section | None, seal: SealFunction) -> Any:
    """Returns all keys of a section, or none where all are defaults, and the keys of `previous` that are not ours."""
    keys = {key.name.removeprefix(f"{name}."): key for key in KEYS.values() if key.name.startswith(f"{name}.")}
    is_set = not all(key.is_default(settings) for key in keys.values())
    known = {inner: _scalar_out(key, settings, seal) for inner, key in keys.items()} if is_set else {}
    return _merged(known, previous, tuple(keys)) or None
