"""Which values the log of a run must not show: those that the agent knows, and the passwords of the run's own files.

The passwords must be masked by the next agent too, so they are kept with the run's settings: sealed (AES-256-GCM) with
a key that lies beside the workspaces and not in them.  A workspace that is archived, copied or published by its own
script gives away neither the encrypted files nor how to open them.  Against a script that runs as the agent's own
user this is no protection, and none is possible.  What cannot be unsealed cannot be masked: such a log is withheld.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tentacle.errors import one_line
from tentacle.masking import Mask, worth_masking
from tentacle.scripts.errors import ScriptError

log = logging.getLogger(__name__)

KEY_FILE = ".mask.key"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class KnownSecrets:
    """The values of one agent.  `watch` is told of every mask that is made, so that the agent's own logs use it too."""

    def __init__(self, known: Iterable[str], key_file: Path, watch: Callable[[Mask], None] = lambda _: None) -> None:
        self._key_file = key_file
        self._watch = watch
        self._key: bytes | None = None
        self.learn(known)

    def learn(self, known: Iterable[str]) -> None:
        """What the agent knows from now on; runs that are there already keep what they have."""
        self._known = frozenset(worth_masking(known))
        self._common = Mask(self._known)
        self._watch(self._common)

    def seal(self, ticket: str, passwords: Iterable[str | None]) -> str:
        """What has to be kept of a run's passwords; nothing when there is nothing to mask.

        Raises `ScriptError` when the key cannot be made.
        """
        values = sorted(set(worth_masking(passwords)))
        if not values:
            return ""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        try:
            sealed = AESGCM(self._the_key(make=True)).encrypt(nonce, json.dumps(values).encode(), _purpose(ticket))
        except OSError as error:
            raise ScriptError(f"The key for sensitive values cannot be used: {one_line(error)}") from error
        return base64.b64encode(nonce + sealed).decode("ascii")

    def mask(self, ticket: str, sealed: str) -> Mask | None:
        """The mask for a run's log; `None` when its passwords are known no more, and so no line may be shown."""
        if not sealed:
            return self._common
        try:
            raw = base64.b64decode(sealed, validate=True)
            key = self._the_key(make=False)
            values = json.loads(AESGCM(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _purpose(ticket)))
        except (OSError, InvalidTag, binascii.Error, ValueError) as error:
            why = one_line(error) if isinstance(error, OSError | ValueError) else "sealed with another key"
            log.error("The output of script %s is withheld, because its passwords cannot be read: %s", ticket, why)
            return None
        mask = Mask({*self._known, *values})
        self._watch(mask)
        return mask

    def _the_key(self, *, make: bool) -> bytes:
        """Raises `OSError` when there is none and none can be made, `ValueError` when it is damaged."""
        if self._key is None:
            self._key = _read(self._key_file, make=make)
        return self._key


def _purpose(ticket: str) -> bytes:
    return b"passwords of " + ticket.encode("utf-8", "surrogatepass")


def _read(path: Path, *, make: bool) -> bytes:
    """The key in the file; made whole under another name first, so that nobody ever reads half of it."""
    try:
        return _read_key(path)
    except FileNotFoundError:
        if not make:
            raise
    except ValueError as error:
        if not make:
            raise
        log.warning("%s; a new key is made", one_line(error))
        path.unlink()
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, _MAKE, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            # A link and no renaming: the key of another agent that was quicker stays.
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    with os.fdopen(os.open(path, _READ), "rb") as file:
        key = file.read(_KEY_BYTES + 1)
    if len(key) != _KEY_BYTES:
        raise ValueError(f"The key in '{path}' is damaged")
    return key
