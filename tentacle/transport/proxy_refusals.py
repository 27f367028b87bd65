"""Remembers over restarts which credentials a proxy has refused: `Work/.proxy-refusals`.

Holds keyed hashes, and when; neither names nor passwords.  Whoever can read the file can read the configuration too.
It is a help only: what cannot be read or written counts as nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from tentacle.disk import DiskError, read_bytes, write_atomic
from tentacle.home_layout import PROXY_REFUSALS, WORK
from tentacle.transport.proxy_logins import PAUSE

_LARGEST: Final = 16 * 1024
_MOST: Final = 50


class KeptRefusals:
    """Those of the instance in `home`.  `clock` is in seconds since 1970."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._work = home / WORK
        self._clock = clock

    def left(self, credentials: object) -> float:
        """Seconds until they may be tried again.  What lies in the future was written by a clock that was wrong."""
        key, moments = self._read()
        since = self._clock() - moments.get(_digest(key, credentials), -math.inf)
        return PAUSE - since if 0 <= since < PAUSE else 0.0

    def refused(self, credentials: object) -> None:
        """They have been, just now."""
        key, moments = self._read()
        now = self._clock()
        kept = {name: moment for name, moment in moments.items() if 0 <= now - moment < PAUSE}
        kept = dict(list(kept.items())[-_MOST + 1 :]) | {_digest(key, credentials): now}
        content = json.dumps({"key": key.hex(), "refused": kept}).encode()
        with suppress(OSError, DiskError):
            write_atomic(self._work / PROXY_REFUSALS, content, mode=0o600, like=self._work)

    def _read(self) -> tuple[bytes, dict[str, float]]:
        with suppress(OSError, DiskError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            values = json.loads(read_bytes(self._work / PROXY_REFUSALS, limit=_LARGEST))
            return bytes.fromhex(values["key"]), {str(name): float(at) for name, at in values["refused"].items()}
        return secrets.token_bytes(32), {}


@runtime_checkable
class Login(Protocol):
    """A proxy, and what it is shown; commands and the agent have values of their own for it."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def username(self) -> str | None: ...

    @property
    def password(self) -> str | None: ...


def _digest(key: bytes, credentials: object) -> str:
    assert isinstance(credentials, Login), "they are those of a proxy"
    told = json.dumps([credentials.host, credentials.port, credentials.username, credentials.password])
    return hmac.new(key, told.encode(), hashlib.sha256).hexdigest()
