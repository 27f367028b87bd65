"""Files that a command writes where its user says: whole or not at all, and private where they hold a secret.

Knows what `settings.files` offers.  Must not know what is written.
"""

from __future__ import annotations

from pathlib import Path

from tentacle.errors import TentacleError
from tentacle.settings.files import ABANDONED_SECONDS, remove_unfinished, write_atomic


def write_public(path: Path, content: bytes) -> None:
    """Writes what anybody may read.  Raises TentacleError."""
    _write(path, content, 0o644)


def write_secret(path: Path, content: bytes) -> None:
    """Writes what only its owner may read.  Raises TentacleError."""
    _write(path, content, 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replaces what a link points to and never the link, which may be `/dev/stdout`."""
    try:
        target = path.resolve()
        if not target.parent.is_dir():
            raise TentacleError(f"The directory of '{path}' does not exist.", hint="Create it first.")
        if target.exists() and not target.is_file():
            raise TentacleError(f"'{path}' is not a regular file.", hint="Give the path of one, or of a new one.")
    except OSError as error:
        raise TentacleError(f"'{str(path)[:200]}' cannot be written: {error.strerror}.") from None
    remove_unfinished(target, older_than=ABANDONED_SECONDS)
    write_atomic(target, content, mode=mode)
