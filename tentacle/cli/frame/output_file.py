"""Files that a command writes to a path that its user gave: whole or not at all, and private where they hold a secret.

Knows what `tentacle.disk` offers.  Must not know what is written.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from tentacle.disk import ABANDONED_SECONDS, remove_unfinished, write_atomic
from tentacle.errors import TentacleError

_SECRET: Final = 0o600
_MOST_LINKS: Final = 40
"""How many links in a row are followed; the kernel's limit."""


def write_public(path: Path, content: bytes) -> None:
    """Writes what anybody may read.  Raises TentacleError."""
    _write(path, content, 0o644)


def write_secret(path: Path, content: bytes) -> None:
    """Writes what only its owner may read.  Raises TentacleError."""
    _write(path, content, _SECRET)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replaces what a link points to, and never the link itself."""
    try:
        target = _behind_links(path)
        if not target.parent.is_dir():
            raise TentacleError(f"The directory of '{path}' does not exist.", hint="Create it first.")
        known = target.exists()
        if known and not target.is_file():
            raise TentacleError(f"'{path}' is not a regular file.", hint="Give the path of one, or of a new one.")
        if known and mode == _SECRET and target.stat().st_uid not in _trusted():
            # A file keeps its owner: another user may have made this one in order to read what we write.
            raise TentacleError(f"'{path}' belongs to another user.", hint="Give the path of a new file.")
    except OSError as error:
        raise TentacleError(f"'{str(path)[:200]}' cannot be written: {error.strerror}.") from None
    remove_unfinished(target, older_than=ABANDONED_SECONDS)
    # By now another user may have put a file there: a secret is not given to its owner.
    write_atomic(target, content, mode=mode, own=mode == _SECRET)


def _behind_links(path: Path) -> Path:
    """Where the link leads.  Refuses a link of another user, which, in /tmp say, could lead anywhere."""
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            return path
        if path.lstat().st_uid not in _trusted():
            raise TentacleError(f"'{path}' is a symbolic link of another user.", hint="Give the path of a file.")
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _trusted() -> tuple[int, int]:
    return 0, os.geteuid()
