"""Everything that can be wrong with settings, each told in one line.

A message names the file and the key, never the value of a secret.  A file that cannot be read or written is told as
`tentacle.disk.DiskError`.
"""

from __future__ import annotations

from typing import Final

from tentacle.errors import TentacleError

CORRECT_IT: Final = "Correct it or restore it; nothing was changed."
"""What to do about a configuration file that cannot be used."""


class SettingsError(TentacleError):
    """A setting, or a file that holds settings, that cannot be used."""


class ConfigurationError(SettingsError):
    """A configuration file that is missing, damaged, too large or not ours; it is left as it is."""


class InstanceError(SettingsError):
    """An instance that does not exist, cannot be chosen, or cannot be registered."""


class CertificateError(SettingsError):
    """A certificate or private key that cannot be read or used."""
