"""Who can open the key of an instance's secrets: its service's user, or systemd for the agent alone.

Knows which directives of a unit hand a file to it (systemd.exec(5), "Credentials").  Must not know users.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator
from pathlib import Path
from typing import Final

from tentacle.errors import TentacleError
from tentacle.settings.key_places import CREDENTIAL, KeyAccess, key_access, key_path_of
from tentacle.settings.model import Settings
from tentacle.settings.store import SettingsFile

_DIRECTIVES: Final = {KeyAccess.ROOT: "LoadCredential", KeyAccess.ENCRYPTED: "LoadCredentialEncrypted"}
_SINCE: Final = {KeyAccess.ROOT: 247, KeyAccess.ENCRYPTED: 250}
"""The versions of systemd that know them."""


def access_from(given: str | None) -> KeyAccess | None:
    """What the option says.  Raises `TentacleError`."""
    if given is None:
        return None
    try:
        return KeyAccess(given.strip().lower())
    except ValueError:
        known = ", ".join(KeyAccess)
        raise TentacleError(f"'{given:.40}' is not who can open a key.", hint=f"Use one of: {known}.") from None


def credential_of(config: Path) -> tuple[str, str] | None:
    """The directive that has systemd hand the key to a unit, and its value; `None` where the unit's user can open it.

    Raises `DiskError`.
    """
    directive = _DIRECTIVES.get(key_access(config))
    return None if directive is None else (directive, f"{CREDENTIAL}:{key_path_of(config)}")


def place_key(
    config: Path, settings: Settings, wanted: KeyAccess | None, systemd: int, which: str
) -> Generator[str, None, KeyAccess]:
    """Has the key lie where those who are wanted can open it, and returns who can; yields a line for what changed.

    `systemd` is its version, `which` names the instance as an option.  Raises `TentacleError`.
    """
    access = wanted or key_access(config)
    if access is KeyAccess.USER:
        if SettingsFile(config).reseal(access) is not None:
            yield f"The key of the instance's secrets is in {key_path_of(config)} now, for the service's user"
        return access
    if systemd < _SINCE[access]:
        raise TentacleError(
            f"--key={access} needs systemd {_SINCE[access]} or newer; this is {systemd or 'not known'}."
        )
    if settings.certificate is None:
        raise TentacleError(
            f"With --key={access} the agent cannot make a certificate itself.",
            hint=f"Make one first: Tentacle new-certificate {shlex.quote(which)}",
        )
    was_root_s = key_access(config) is not KeyAccess.USER or key_path_of(config).stat().st_uid == 0
    made = SettingsFile(config).reseal(access)
    if made is None:
        return access
    yield f"The key of the instance's secrets is root's now, and handed to the agent alone: {made}"
    if not was_root_s:
        yield "Scripts could read the certificate's private key until now. If one may have kept it, replace both:"
        yield f"  Tentacle rotate-certificate {shlex.quote(which)}"
    return access
