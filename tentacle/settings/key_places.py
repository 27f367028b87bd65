"""Where the key is that an instance's secrets are sealed with, and who can open it there.

Beside the configuration it belongs to the service's user, and so to scripts.  In a store of root's, plain or encrypted
for this machine, it is root's, and systemd hands it to the agent alone, as a credential.  An instance has one of these.

Knows the stores, `systemd-creds`(1) and `$CREDENTIALS_DIRECTORY` (systemd.exec(5), "Credentials").  Must not know units
or users.
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from tentacle.disk import behind_links, beside, is_directory, is_file
from tentacle.errors import one_line
from tentacle.home_layout import KEY_SUFFIX
from tentacle.late_imports import LateModule
from tentacle.sealing import LOCK_WAIT_SECONDS, KeyFile, SealingError

if TYPE_CHECKING:
    import subprocess
else:  # for a key that only this machine can decrypt
    subprocess = LateModule("subprocess")

CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
"""In the environment of a service: the directory with what systemd hands to it."""
CREDENTIAL: Final = "tentacle.key"
"""What the key is called there."""
_LONGEST_NAME: Final = 120
_LARGEST_ENCRYPTED: Final = 64 * 1024
_SECONDS: Final = 60.0
"""For how long `systemd-creds` may take: a security chip (TPM) is slow, and may be in use."""


class KeyAccess(enum.StrEnum):
    """Who can open the key."""

    USER = "user"
    """The service's user."""
    ROOT = "root"
    """Root, and the agent by way of systemd."""
    ENCRYPTED = "encrypted"
    """The same, and nobody who has the disk but not the machine."""


_STORES: Final = {
    KeyAccess.ENCRYPTED: Path("/etc/credstore.encrypted"),
    KeyAccess.ROOT: Path("/etc/credstore"),
}
"""systemd's own directories for such files, which only root may enter."""
ROOT_S: Final = tuple(_STORES)
"""Root's kinds of access; a key in the store of an earlier one counts."""


class KeyOfService(SealingError):
    """The key was handed to this process, which cannot change what it seals."""


def key_access(config: Path) -> KeyAccess:
    """Who can open the key of the configuration at `config`, as far as this user can see.  Raises `DiskError`.

    A key of root's counts for root alone, also where others see it, in a store that somebody has made for everybody.
    """
    return next((one for one in ROOT_S if _is_readable(key_place(config, one))), KeyAccess.USER)


def _is_readable(path: Path) -> bool:
    return is_file(path) and os.access(path, os.R_OK, effective_ids=True)


def key_place(config: Path, access: KeyAccess) -> Path:
    """The path of a key with that access.  A link to a configuration has the key of that.  Raises `DiskError`."""
    if access is KeyAccess.USER:
        return beside(config, KEY_SUFFIX)
    path = str(behind_links(config))
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", path)[-_LONGEST_NAME:].strip("-")
    return _STORES[access] / f"tentacle-{readable}-{digest}{KEY_SUFFIX}"


def key_path_of(config: Path) -> Path:
    """The key that the secrets of a configuration are sealed with.  Raises `DiskError`."""
    return key_place(config, key_access(config))


def unfinished_place(config: Path, access: KeyAccess) -> Path:
    """Where a new key lies until the configuration is sealed with it: in one of root's stores."""
    place = key_place(config, access)
    return place.with_name(place.name.replace("-", "-new-", 1))


def credentials_of(environ: Mapping[str, str]) -> Path | None:
    """The directory with what systemd has handed to this process, if there is one."""
    directory = environ.get(CREDENTIALS_VARIABLE, "")
    return Path(directory) if directory and is_directory(Path(directory)) else None


def key_of_service(environ: Mapping[str, str]) -> Path | None:
    """The key that systemd has handed to this process, if it has."""
    directory = credentials_of(environ)
    return directory / CREDENTIAL if directory and is_file(directory / CREDENTIAL) else None


def key_file(
    path: Path,
    access: KeyAccess,
    *,
    wait: float = LOCK_WAIT_SECONDS,
    waiting: Callable[[], None] = lambda: None,
) -> KeyFile:
    """The key at `path`, which is a place for keys with that access."""
    kind = EncryptedKeyFile if access is KeyAccess.ENCRYPTED else KeyFile
    return kind(path, wait=wait, waiting=waiting)


class EncryptedKeyFile(KeyFile):
    """A key that `systemd-creds` has encrypted: with the machine's security chip (TPM), its secret file, or both."""

    largest = _LARGEST_ENCRYPTED

    def decoded(self, content: bytes) -> bytes | None:
        if not content:
            return None
        return super().decoded(self._converted("decrypt", content)) or self._fail("it holds no key")

    def encoded(self, key: bytes) -> bytes:
        return self._converted("encrypt", super().encoded(key))

    def _converted(self, verb: str, content: bytes) -> bytes:
        """What `systemd-creds` makes of it, by its standard streams: no secret is in an argument or a file."""
        hint = "Nothing was changed; --key=root does without it." if verb == "encrypt" else None
        command = ["systemd-creds", verb, f"--name={CREDENTIAL}", "-", "-"]
        try:
            done = subprocess.run(command, input=content, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            self._fail(one_line(error), hint)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip() or f"it ended with exit code {done.returncode}"
            self._fail(one_line(ValueError(said))[:300], hint)
        return done.stdout

    def _fail(self, why: str, hint: str | None = None) -> NoReturn:
        raise SealingError(f"The key file '{self.path}' cannot be used with systemd-creds: {why}", hint=hint)


class KeyFileOfService(KeyFile):
    """The key that systemd has handed to this process."""

    def hold(self, *, may_make: Callable[[], bool], like: Path | None = None) -> NoReturn:
        """Raises `KeyOfService`."""
        raise KeyOfService("The key of this instance is root's, and so only root can change what it seals.")
