"""Passwords and keys as hashes that cannot be turned back, and a pause for who guesses them.

Knows neither users nor HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

_SCHEME: Final = "scrypt-14-8-1"
_SALT: Final = 16
FREE_GUESSES: Final = 10
"""Wrong ones in a row that cost nothing."""

LONGEST_PAUSE: Final = 60.0
FORGOTTEN_AFTER: Final = 600.0
REMEMBERED: Final = 1000
"""Guessers at most; the oldest is forgotten."""


def _scrypt(salt: bytes) -> Scrypt:
    # 16 MiB and some 50 ms: the parameters of its author for sign-ins.
    return Scrypt(salt=salt, length=32, n=2**14, r=8, p=1)


def hash_secret(secret: str) -> str:
    """Returns what is stored of a password or key, by scrypt with a salt of its own.  Takes its time."""
    salt = os.urandom(_SALT)
    return f"{_SCHEME}${(salt + _scrypt(salt).derive(_bytes(secret))).hex()}"


def is_secret(secret: str, stored: str) -> bool:
    """Returns whether `stored` is the hash of this secret.  Takes its time."""
    scheme, _, digits = stored.partition("$")
    if scheme != _SCHEME:
        # A key that an earlier version kept: long and random, with one round of SHA-256.
        return hmac.compare_digest(quick_hash(secret), stored)
    salt, derived = bytes.fromhex(digits)[:_SALT], bytes.fromhex(digits)[_SALT:]
    try:
        _scrypt(salt).verify(_bytes(secret), derived)
    except InvalidKey:
        return False
    return True


def is_outdated(stored: str) -> bool:
    """Returns whether a hash should be made anew when its secret is at hand."""
    return not stored.startswith(_SCHEME)


def quick_hash(secret: str) -> str:
    """Returns a hash to find a long random secret by, in memory; it is never stored."""
    return hashlib.sha256(_bytes(secret)).hexdigest()


def _bytes(secret: str) -> bytes:
    return secret.encode("utf-8", "replace")[:1024]


@dataclass
class Hashing:
    """The same without blocking others, a few at a time."""

    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    async def hash(self, secret: str) -> str:
        async with self._turns:
            return await asyncio.to_thread(hash_secret, secret)

    async def matches(self, secret: str, stored: str) -> bool:
        async with self._turns:
            return await asyncio.to_thread(is_secret, secret, stored)


@dataclass
class Guesses:
    """Wrong secrets by who guesses: after some in a row, each costs a pause that doubles."""

    now: Callable[[], float]
    _wrong: dict[str, tuple[int, float]] = field(default_factory=dict)

    def pause(self, who: str) -> float:
        """Returns the seconds until `who` may try again; 0 for at once."""
        count, last = self._wrong.get(who, (0, 0.0))
        if count < FREE_GUESSES:
            return 0.0
        return max(0.0, last + min(2.0 ** (count - FREE_GUESSES), LONGEST_PAUSE) - self.now())

    def wrong(self, who: str) -> None:
        count, last = self._wrong.pop(who, (0, 0.0))
        if self.now() - last > FORGOTTEN_AFTER:
            count = 0
        while len(self._wrong) >= REMEMBERED:
            self._wrong.pop(next(iter(self._wrong)))
        self._wrong[who] = count + 1, self.now()

    def right(self, who: str) -> None:
        self._wrong.pop(who, None)
