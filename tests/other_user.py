"""A user without rights, who plants links where root is going to work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE

NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root works in directories of other users")


def as_nobody(directory: Path, *command: str) -> None:
    """Runs a command in that directory, which it need not be able to reach by its path."""
    subprocess.run(command, cwd=directory, user=NOBODY, group=NOBODY, extra_groups=(), check=True, timeout=PATIENCE)


def of_nobody(directory: Path) -> Path:
    """Makes a directory that belongs to that user."""
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    return directory


def second_name(directory: Path, name: str, file: Path) -> None:
    """Gives a file another name (a hard link), as everybody can to every file where `fs.protected_hardlinks` is 0."""
    os.link(file, directory / name)


def secret_of_root(path: Path, content: bytes = b"secret") -> Path:
    """Makes a file that only root may read, in a directory in which only root may make files."""
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path
