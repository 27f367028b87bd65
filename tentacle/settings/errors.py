"""Everything that can be wrong with settings, each told in one line.

Knows the texts that several modules share.  A message names the file and the key, never the value of a secret.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from tentacle.errors import TentacleError, one_line


class SettingsError(TentacleError):
    """A setting, or a file that holds settings, that cannot be used."""


class ConfigurationError(SettingsError):
    """A configuration file that is missing, damaged, too large or not ours; it is left as it is."""


class InstanceError(SettingsError):
    """An instance that does not exist, cannot be chosen, or cannot be registered."""


class CertificateError(SettingsError):
    """A certificate or private key that cannot be read or used."""


def cannot(verb: str, path: Path, error: OSError) -> SettingsError:
    """The error for a failed file operation; `verb` is e.g. `write`, or `create directory` where it is no file.

    The texts are the original's (tentacle-cli.md 3.1 and 3.2).
    """
    what = verb if " " in verb else f"{verb} file"
    message = f"Unable to {what} '{path}' as user '{_user_name()}'."
    if isinstance(error, PermissionError):
        return SettingsError(f"{message} Please check file permissions.")
    return SettingsError(f"{message} {one_line(OSError(error.strerror or type(error).__name__))}.")


def _user_name() -> str:
    user = os.geteuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
