"""Settings from environment variables, which override those of the file (docs/spec/command-line.md,
"Settings from the environment").

For containers: active only when `OCTOPUS_CONTRIBUTE_ENV_SETTINGS` is true.  The variables are read and never written
to a file.  The environment of the process counts over a `.env` file.  Must not know the configuration file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tentacle.disk import DiskError, is_file, read_bytes
from tentacle.late_imports import LateModule
from tentacle.settings.environment_switch import is_enabled
from tentacle.settings.errors import CertificateError, SettingsError
from tentacle.settings.keys import KEYS, Key, ValueKind
from tentacle.settings.model import Settings
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.settings.trust import parse_servers, same_thumbprint

if TYPE_CHECKING:
    from tentacle.settings import certificate_files
else:  # cryptography
    certificate_files = LateModule("tentacle.settings.certificate_files")


ENV_FILE_NAME = ".env"
LARGEST_ENV_FILE = 1024 * 1024

T = TypeVar("T")
Values = Mapping[str, str]


def find_env_file(start: Path) -> Path | None:
    """Returns the nearest `.env` file in `start` or a directory above it, or None."""
    folders = (start.absolute(), *start.absolute().parents)
    return next((folder / ENV_FILE_NAME for folder in folders if is_file(folder / ENV_FILE_NAME)), None)


def parse_env_file(text: str) -> dict[str, str]:
    """Returns the variables in `KEY=VALUE` lines, without blanks around both; empty lines and `#` comments are skipped.

    Raises `SettingsError` naming a line without `=`.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        trimmed = line.strip()
        if not trimmed or trimmed.startswith("#"):
            continue
        name, separator, value = trimmed.partition("=")
        if not separator or "\0" in line:
            raise SettingsError(f"Line {number} is not formatted correctly.", hint="Write KEY=VALUE.")
        found[name.strip()] = value.strip()
    return found


def apply_environment(settings: Settings, environ: Values, env_file: Path | None = None) -> Settings:
    """Returns `settings` with what the environment and the `.env` file override; unchanged unless that is enabled.

    A blank value overrides nothing.  Raises `SettingsError` naming the variable that cannot be used; a value that may
    be a secret is not shown.
    """
    if not is_enabled(environ):
        return settings
    values = {**_read_env_file(env_file), **{name: value for name, value in environ.items() if value.strip()}}
    settings = replace(
        settings,
        servers=_parsed(values, "TENTACLE_TRUSTED_SERVERS", parse_servers, settings.servers),
        certificate=_certificate(values, settings.certificate),
    )
    for key in KEYS.values():
        if key.variable is not None:
            settings = key.put(settings, _parsed(values, key.variable, partial(_value, key), key.get(settings)))
    return settings


def _read_env_file(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        return parse_env_file(read_bytes(path, limit=LARGEST_ENV_FILE).decode("utf-8"))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise SettingsError(f"The file '{path}' is not UTF-8 text.") from None
    except (DiskError, SettingsError) as error:
        raise SettingsError(f"The file '{path}' cannot be used: {error.message}", hint=error.hint) from None


def _value(key: Key, text: str) -> Any:
    """Returns the value of `key` that the text of a variable means.  Raises `SettingsError` with a `must be ...`."""
    match key.kind:
        case ValueKind.TEXT | ValueKind.SECRET:
            return text
        case ValueKind.PATH:
            return Path(text)
        case ValueKind.PORT | ValueKind.COUNT:
            try:
                number = int(text) if text.isascii() and "_" not in text else None
            except ValueError:
                number = None
            if number is None or abs(number) >= 2**31:
                raise SettingsError(f"must be a whole number, not {text!r:.40}")
            return number
        case ValueKind.FLAG:
            word = text.strip().lower()
            if word not in ("true", "false"):
                raise SettingsError(f"must be true or false, not {text!r:.40}")
            return word == "true"
        case ValueKind.SYNTAX:
            return key.parse(text)


def _text(values: Values, name: str) -> str | None:
    value = values.get(name, "")
    return value if value.strip() else None


def _parsed(values: Values, name: str, parse: Callable[[str], T], default: T) -> T:
    value = _text(values, name)
    if value is None:
        return default
    try:
        return parse(value)
    except SettingsError as error:
        raise SettingsError(f"The environment variable {name} {error.message}.") from None


def _certificate(values: Values, current: StoredCertificate | None) -> StoredCertificate | None:
    text, expected = _text(values, "TENTACLE_CERTIFICATE"), _text(values, "TENTACLE_CERTIFICATE_THUMBPRINT")
    try:
        chosen = current if text is None else certificate_files.load_base64(text)
    except CertificateError:
        raise SettingsError(
            "The environment variable TENTACLE_CERTIFICATE must be base64 of a PFX file with its private key and "
            "without a password."
        ) from None
    if chosen is not None and expected is not None and not same_thumbprint(chosen.thumbprint, expected):
        raise SettingsError(
            f"The environment variable TENTACLE_CERTIFICATE_THUMBPRINT is {expected.strip()!r:.60}, "
            f"but the certificate is {chosen.thumbprint}."
        )
    return chosen
