"""Secrets at rest: a random key in a file of its own, and texts sealed with it (AES-256-GCM).

The key file doubles as a lock: it is never replaced while it is in use, and only its owner can open it, so that a
stranger cannot hold the lock.  Knows key files.  Must not know what is sealed, or whose key it is.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tentacle.disk import (
    cannot,
    exists,
    flush_directory,
    lock,
    read_bytes,
    remove_unfinished,
    set_mode,
    sync,
    write_atomic,
)
from tentacle.errors import TentacleError
from tentacle.late_imports import LateModule
from tentacle.path_walk import open_alone

if TYPE_CHECKING:
    from cryptography import exceptions
    from cryptography.hazmat.primitives.ciphers import aead
else:  # a file may hold nothing that is sealed, or nobody wants it unsealed
    exceptions = LateModule("cryptography.exceptions")
    aead = LateModule("cryptography.hazmat.primitives.ciphers.aead")

PREFIX = "sealed:1:"
KEY_BYTES = 32
NONCE_BYTES = 12
LARGEST_KEY_FILE = 1024
LOCK_WAIT_SECONDS = 30.0
RETRY_SECONDS = 0.02
QUIET_SECONDS = 1.0
"""How long a caller waits for a lock before it is told that it waits."""


class SealingError(TentacleError):
    """A key file that cannot be used."""


class KeyMissing(SealingError):
    """There is no key file."""


class KeyDamaged(SealingError):
    """The key file does not hold a key."""


class KeyLocked(SealingError):
    """Another process holds the lock of the key file."""


class UnsealError(ValueError):
    """The text was sealed with another key, for another purpose, or was changed."""


def is_sealed(text: str) -> bool:
    """Whether `text` was sealed; anything else is a secret that a person wrote down in plain text."""
    return text.startswith(PREFIX)


def new_key() -> bytes:
    """A random key."""
    return secrets.token_bytes(KEY_BYTES)


class Sealer:
    """Seals texts with one key.  A text is bound to its purpose, so that it is of no use under another name."""

    def __init__(self, key: bytes, source: Path | None = None) -> None:
        """`source` is where the key was, for messages."""
        self._cipher = aead.AESGCM(key)
        self._with = f" with the key in '{source}'" if source else ""

    def seal(self, purpose: str, text: str) -> str:
        """Returns `text` as one printable word."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, _bytes(text), _bytes(purpose))
        return PREFIX + base64.b64encode(nonce + sealed).decode("ascii")

    def unseal(self, purpose: str, sealed: str) -> str:
        """Returns the text in `sealed`, with or without its prefix.  Raises `UnsealError`."""
        try:
            raw = base64.b64decode(sealed.removeprefix(PREFIX), validate=True)
            text = self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bytes(purpose))
        except (binascii.Error, ValueError, exceptions.InvalidTag):
            raise UnsealError(f"cannot be unsealed{self._with}") from None
        return text.decode("utf-8", "surrogatepass")


class KeyFile:
    """A key in a file with mode 0600: base64 of 32 bytes, or (read only) the bytes themselves.

    All methods raise `SealingError`, or `DiskError` when the file system refuses.
    """

    largest = LARGEST_KEY_FILE
    """Bytes that the file may have."""

    def __init__(
        self, path: Path, *, wait: float = LOCK_WAIT_SECONDS, waiting: Callable[[], None] = lambda: None
    ) -> None:
        """`wait`: seconds to wait for the lock; `waiting` is called once when that takes more than a moment."""
        self.path = path
        self._wait = wait
        self._waiting = waiting

    def read(self) -> Sealer:
        """Returns a sealer with the key, without taking the lock.  Raises `KeyMissing` or `KeyDamaged`."""
        try:
            key = self.decoded(read_bytes(self.path, limit=self.largest))
        except FileNotFoundError:
            raise self.missing() from None
        if key is None:
            raise self._damaged()
        return Sealer(key, self.path)

    def make(self, key: bytes, *, like: Path | None = None) -> None:
        """Puts a key there in one step, or leaves what is there; root gives it the owner of `like`."""
        content = self.encoded(key)
        remove_unfinished(self.path)
        write_atomic(self.path, content, mode=0o600, like=like, own=like is None)

    def decoded(self, content: bytes) -> bytes | None:
        """The key in the content of the file; `None` where there is none."""
        if len(content) == KEY_BYTES:
            return content
        try:
            key = base64.b64decode(content.strip(), validate=True)
        except (binascii.Error, ValueError):
            return None
        return key if len(key) == KEY_BYTES else None

    def encoded(self, key: bytes) -> bytes:
        """The content of a file with that key."""
        return base64.b64encode(key) + b"\n"

    def missing(self) -> KeyMissing:
        """The error for secrets whose key is gone."""
        return KeyMissing(f"The key file '{self.path}' is missing.")

    def _damaged(self) -> KeyDamaged:
        return KeyDamaged(f"The key file '{self.path}' is damaged.")

    @contextlib.contextmanager
    def hold(self, *, may_make: Callable[[], bool], like: Path | None = None) -> Iterator[Sealer]:
        """Locks the key against every other holder until the block ends, and yields a sealer with it.

        A missing or damaged key is made anew only if `may_make()`, which is called under the lock, says that nothing
        was sealed with it; otherwise `KeyDamaged` is raised.  Raises `KeyLocked` when the lock is not to be had.  Root
        gives a new file the owner of `like`.
        """
        descriptor = self._open_locked(like, may_make)
        try:
            try:
                if os.fstat(descriptor).st_mode & 0o077:
                    set_mode(descriptor, 0o600)
                content = os.pread(descriptor, self.largest, 0)
            except OSError as error:
                raise cannot("read", self.path, error) from None
            key = self.decoded(content)
            if key is None:
                if not may_make():
                    raise self._damaged()
                key = new_key()
                self._write(descriptor, key)
            yield Sealer(key)
        finally:
            os.close(descriptor)

    def _open_locked(self, like: Path | None, may_make: Callable[[], bool]) -> int:
        started, told = time.monotonic(), False
        while True:
            descriptor = self._open(like)
            try:
                lock(descriptor)
                if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                    return descriptor  # else somebody has put another file there meanwhile
            except (BlockingIOError, FileNotFoundError):
                pass
            except OSError as error:
                os.close(descriptor)
                raise cannot("lock", self.path, error) from None
            os.close(descriptor)
            waited = time.monotonic() - started
            if waited >= self._wait:
                raise KeyLocked(
                    f"Another process holds '{self.path}' locked.", hint="Try again when that process has ended."
                )
            if waited >= QUIET_SECONDS and not told:
                told = True
                self._waiting()
            time.sleep(RETRY_SECONDS)
            if not exists(self.path) and not may_make():
                raise self.missing()  # whoever held it has put the key elsewhere: an empty file would count as the key

    def _open(self, like: Path | None) -> int:
        try:
            return open_alone(self.path, os.O_RDWR | os.O_NONBLOCK, like=like)
        except OSError as error:
            raise cannot("write", self.path, error) from None

    def _write(self, descriptor: int, key: bytes) -> None:
        content = self.encoded(key)
        try:
            os.ftruncate(descriptor, 0)
            set_mode(descriptor, 0o600)
            os.pwrite(descriptor, content, 0)
            sync(descriptor)
            flush_directory(self.path.parent)
        except OSError as error:
            raise cannot("write", self.path, error) from None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
