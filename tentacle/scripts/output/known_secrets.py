"""Which values the log of a run must not show: those that the agent knows, and the passwords of the run's own files.

The next agent must mask the passwords too, so they are kept in the run's header, sealed with a key that lies beside the
workspaces and not in them.  A workspace that its script archives, copies or publishes gives away neither the encrypted
files nor the key.  Against a script that runs as the agent's own user this is no protection, and none is possible.  A
log whose passwords cannot be unsealed cannot be masked, and is withheld.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from tentacle.disk import DiskError
from tentacle.errors import one_line
from tentacle.masking import Mask, worth_masking
from tentacle.scripts.errors import ScriptError
from tentacle.sealing import KeyFile, Sealer, SealingError, UnsealError

log = logging.getLogger(__name__)


class KnownSecrets:
    """The values of one agent.  `watch` is called with every new mask, so that the agent's own logs use it too."""

    def __init__(self, known: Iterable[str], key_file: Path, watch: Callable[[Mask], None] = lambda _: None) -> None:
        self._key = KeyFile(key_file)
        self._watch = watch
        self._sealer: Sealer | None = None
        self.learn(known)

    def learn(self, known: Iterable[str]) -> None:
        """Replaces the values that the agent knows; masks of existing runs stay as they are."""
        self._known = frozenset(worth_masking(known))
        self._common = Mask.of_secrets(self._known)
        self._watch(self._common)

    def seal(self, ticket: str, passwords: Iterable[str | None]) -> str:
        """Returns the sealed passwords of a run, for its header; empty when there is nothing to mask.

        Raises `ScriptError` when the key cannot be made.
        """
        values = sorted(set(worth_masking(passwords)))
        if not values:
            return ""
        try:
            if self._sealer is None:
                if not self._key.path.is_file():
                    # What has been put there instead, a pipe say, was never a key.
                    with contextlib.suppress(OSError):
                        self._key.path.unlink()
                with self._key.hold(may_make=lambda: True) as sealer:
                    self._sealer = sealer
            return self._sealer.seal(_purpose(ticket), json.dumps(values))
        except (DiskError, SealingError) as error:
            raise ScriptError(f"The key for sensitive values cannot be used: {one_line(error)}") from error

    def mask(self, ticket: str, sealed: str) -> Mask | None:
        """Returns the mask for a run's log; `None` when its passwords cannot be unsealed: then no line may be shown."""
        if not sealed:
            return self._common
        try:
            self._sealer = self._sealer or self._key.read()
            values = json.loads(self._sealer.unseal(_purpose(ticket), sealed))
        except (DiskError, SealingError, UnsealError, ValueError) as error:
            log.error(
                "The output of script %s is withheld, because its passwords cannot be read: %s", ticket, one_line(error)
            )
            return None
        own = Mask.of_secrets(values)
        self._watch(own)
        return Mask(others=(own, self._common))


def _purpose(ticket: str) -> str:
    return f"passwords of {ticket}"
