"""The server's data directory: its certificate, its database, files on their way; for one server at a time.

Knows the file system; must not know HTTP.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tentacle.disk import lock, make_directories, read_bytes, write_atomic
from tentacle.errors import TentacleError
from tentacle.settings.certificates import from_pem, generate
from tentacle.settings.stored_certificate import StoredCertificate


class HomeUnusable(TentacleError):
    """The data directory cannot be used."""


@dataclass(frozen=True)
class Home:
    """Paths in the data directory."""

    database: Path
    files: Path
    artifacts: Path
    packages: Path
    spool: Path
    identity: Path
    api_key: Path

    def kept_api_key(self, make: Callable[[], str]) -> str:
        """Returns the key that the server made when it was started for the first time, or makes it now."""
        try:
            return read_bytes(self.api_key).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            made = make()
            write_atomic(self.api_key, made.encode() + b"\n", mode=0o600)
            return made

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
        if path.stat().st_mode & stat.S_IWOTH:
            raise HomeUnusable(f"Everybody may write to the data directory '{path}'.", hint="Change that: chmod o-w")
        try:
            descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            undo.callback(os.close, descriptor)
            lock(descriptor)
        except BlockingIOError as error:
            message = f"The data directory '{path}' is used by another server."
            raise HomeUnusable(message, hint="Stop it, or choose another directory.") from error
        except OSError as error:
            raise HomeUnusable(f"The data directory '{path}' cannot be used: {error.strerror}") from error
        names = ("server.db", "files", "artifacts", "packages", "spool", "identity.pem", "api-key")
        home = Home(*(path / name for name in names))
        make_directories(home.files, mode=0o700)
        for left in home.files.iterdir():
            # A server that was killed left it on its way.
            with contextlib.suppress(OSError):
                left.unlink()
        yield home
