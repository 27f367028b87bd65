"""Secrets at rest: a random key in a file of its own, and texts sealed with it (AES-256-GCM).

The key file stands beside the configuration that it serves and moves with it.  It doubles as the lock of that
configuration: it is never replaced while it is in use, and nobody but its owner can open it, so that a stranger
cannot hold the lock.  Knows nothing of what is sealed.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tentacle.settings.errors import ConfigurationError, cannot
from tentacle.settings.files import flush_directory, keep_owner, read_bytes

PREFIX = "sealed:1:"
KEY_BYTES = 32
NONCE_BYTES = 12
LARGEST_KEY_FILE = 1024
RETRY_SECONDS = 0.02
PATIENCE_SECONDS = 1.0
"""Who waits longer for a lock is told why."""


def key_path_of(config_path: Path) -> Path:
    """Where the key of a configuration file lies: `<file>.key` beside it."""
    return config_path.with_name(config_path.name + ".key")


def is_sealed(text: str) -> bool:
    """Whether `text` was sealed; anything else is a secret that a person wrote down in plain text."""
    return text.startswith(PREFIX)


class UnsealError(ValueError):
    """The text was sealed with another key, for another purpose, or was changed."""


class Sealer:
    """Seals texts with one key.  A text is bound to its purpose, so that it is of no use under another name."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, purpose: str, text: str) -> str:
        """`text` as one printable word."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode("utf-8", "surrogatepass"), purpose.encode())
        return PREFIX + base64.b64encode(nonce + sealed).decode("ascii")

    def unseal(self, purpose: str, sealed: str) -> str:
        """The text behind `sealed`; raises `UnsealError`."""
        try:
            raw = base64.b64decode(sealed.removeprefix(PREFIX), validate=True)
            text = self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], purpose.encode())
        except (binascii.Error, ValueError, InvalidTag):
            raise UnsealError("cannot be unsealed") from None
        return text.decode("utf-8", "surrogatepass")


class KeyFile:
    """The key of one configuration, mode 0600, made when it is first needed."""

    def __init__(self, path: Path, *, wait: float, waiting: Callable[[], None] = lambda: None) -> None:
        """`wait`: seconds until a lock that somebody else holds is given up on; `waiting` is called once before."""
        self.path = path
        self._wait = wait
        self._waiting = waiting

    def read(self) -> Sealer:
        """The key as it is; raises `ConfigurationError` when it is missing or damaged."""
        try:
            key = _decode(read_bytes(self.path, limit=LARGEST_KEY_FILE))
        except FileNotFoundError:
            raise self.missing() from None
        if key is None:
            raise self._damaged()
        return Sealer(key)

    def missing(self) -> ConfigurationError:
        """The error for a configuration with secrets whose key is gone."""
        return ConfigurationError(f"The key file '{self.path}' is missing.", hint=_restore_hint())

    @contextlib.contextmanager
    def hold(self, *, like: Path, may_make: Callable[[], bool]) -> Iterator[Sealer]:
        """The key, locked against every other writer until the block ends.

        A missing or damaged key is made anew only if `may_make()`, asked under the lock, says that nothing was sealed
        with it.  The file gets the owner of `like`.  Raises `ConfigurationError`.
        """
        descriptor = self._open_locked(like)
        try:
            key = _decode(self._content(descriptor))
            if key is None:
                if not may_make():
                    raise self._damaged()
                key = secrets.token_bytes(KEY_BYTES)
                self._write(descriptor, key)
            yield Sealer(key)
        finally:
            os.close(descriptor)

    def _open_locked(self, like: Path) -> int:
        deadline = time.monotonic() + self._wait
        patience = time.monotonic() + PATIENCE_SECONDS
        while True:
            descriptor = self._open(like)
            if self._lock(descriptor):
                return descriptor
            os.close(descriptor)
            if time.monotonic() >= deadline:
                raise ConfigurationError(
                    f"The configuration is being changed by another process, which holds '{self.path}' locked.",
                    hint="Try again when that process has ended.",
                )
            if time.monotonic() >= patience:
                patience = deadline
                self._waiting()
            time.sleep(RETRY_SECONDS)

    def _open(self, like: Path) -> int:
        # No link is followed: in a directory of another user it could lead root to write over any file.
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        try:
            with contextlib.suppress(FileNotFoundError):
                return os.open(self.path, flags)
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
                keep_owner(descriptor, like)
                return descriptor
            return os.open(self.path, flags)
        except OSError as error:
            raise cannot("write", self.path, error) from None

    def _lock(self, descriptor: int) -> bool:
        """Locks it, unless somebody else has, or it is no longer the file at our path."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except (BlockingIOError, FileNotFoundError):
            return False
        except OSError as error:
            os.close(descriptor)
            raise cannot("lock", self.path, error) from None

    def _content(self, descriptor: int) -> bytes:
        try:
            if os.fstat(descriptor).st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
            return os.pread(descriptor, LARGEST_KEY_FILE, 0)
        except OSError as error:
            raise cannot("read", self.path, error) from None

    def _write(self, descriptor: int, key: bytes) -> None:
        try:
            os.ftruncate(descriptor, 0)
            os.fchmod(descriptor, 0o600)
            os.pwrite(descriptor, base64.b64encode(key) + b"\n", 0)
            os.fsync(descriptor)
            flush_directory(self.path.parent)
        except OSError as error:
            raise cannot("write", self.path, error) from None

    def _damaged(self) -> ConfigurationError:
        return ConfigurationError(f"The key file '{self.path}' is damaged.", hint=_restore_hint())


def _decode(content: bytes) -> bytes | None:
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def _restore_hint() -> str:
    return (
        "Restore it from where the configuration came from, or remove the sealed values from the configuration and "
        "set the certificate and the passwords again."
    )
