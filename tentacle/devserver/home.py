"""The server's data directory: its certificate, its database, files on their way; for one server at a time.

Knows the file system; must not know HTTP.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tentacle.disk import make_directories, read_bytes, write_atomic
from tentacle.errors import TentacleError
from tentacle.settings.certificates import StoredCertificate, from_pem, generate


class HomeUnusable(TentacleError):
    """The data directory cannot be used."""


@dataclass(frozen=True)
class Home:
    """Paths in the data directory."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "server.db"

    @property
    def files(self) -> Path:
        return self.path / "files"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def packages(self) -> Path:
        return self.path / "packages"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    @property
    def identity(self) -> Path:
        return self.path / "identity.pem"

    def certificate(self) -> StoredCertificate:
        """Returns the server's own certificate; makes it when there is none.  Raises `TentacleError`."""
        try:
            both = read_bytes(self.identity)
        except FileNotFoundError:
            made = generate()
            # One file for both, so that a key without its certificate can never be left behind.
            write_atomic(self.identity, made.key_pem + made.certificate_pem, mode=0o600)
            return made
        return from_pem(both, both)


@contextmanager
def data_directory(path: Path | None) -> Iterator[Home]:
    """The directory, private and locked; without a path it is a temporary one that is removed at the end.

    Raises `HomeUnusable` when it cannot be made or another server uses it.
    """
    with contextlib.ExitStack() as undo:
        if path is None:
            path = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="tentacle-devserver-")))
        make_directories(path, mode=0o700)
        undo.enter_context(_locked(path))
        home = Home(path)
        make_directories(home.files, mode=0o700)
        for left in home.files.iterdir():
            # A server that was killed left it on its way.
            with contextlib.suppress(OSError):
                left.unlink()
        yield home


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HomeUnusable(f"The data directory '{path}' cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        message = f"The data directory '{path}' is used by another server."
        raise HomeUnusable(message, hint="Stop it, or choose another directory.") from error
    try:
        yield
    finally:
        os.close(lock)
