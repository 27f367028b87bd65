"""One configuration file: read, replaced in one step, changed by one process at a time.

The key that its secrets are sealed with is a file of its own, mode 0600 like the file itself (`key_places.py`), which
writers lock (`flock`).  Readers take no lock: they see the file before or after a change.  A file that cannot be
understood is never written to.  Knows files and locks.  Must not know what is in the file (`document.py`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tentacle.disk import (
    LARGEST_FILE,
    DiskError,
    behind_links,
    beside,
    exists,
    is_file,
    make_directories,
    read_bytes,
    remove_file,
    remove_unfinished,
    write_atomic,
)
from tentacle.home_layout import KEPT_CERTIFICATE_SUFFIX
from tentacle.sealing import LOCK_WAIT_SECONDS, PREFIX, KeyFile, KeyLocked, KeyMissing, Sealer, SealingError, new_key
from tentacle.settings import document
from tentacle.settings.errors import CORRECT_IT, ConfigurationError
from tentacle.settings.identity_origin import remember_origin
from tentacle.settings.key_places import (
    ROOT_S,
    KeyAccess,
    KeyFileOfService,
    KeyOfService,
    key_access,
    key_file,
    key_of_service,
    key_place,
    unfinished_place,
)
from tentacle.settings.model import Settings
from tentacle.settings.plain_home import home_seen_from
from tentacle.settings.rotation import dropped
from tentacle.settings.stored_certificate import StoredCertificate

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
RESTORE_HINT = (
    "Restore it from where the configuration came from, or remove the sealed values from the configuration and "
    "set the certificate and the passwords again."
)

CLOSED_HINT = f"Run this as root, whose it is after 'service --key=root'. If it is lost: {RESTORE_HINT}"
OF_SERVICE_HINT = "As root, e.g.: Tentacle new-certificate --if-blank"

ORIGINAL_MARKS = ("<?xml", "<octopus-settings")


def kept_certificate_path(config_path: Path, thumbprint: str) -> Path:
    """Where a certificate that was replaced is kept: a file in the form of a configuration, sealed with its key."""
    return beside(config_path, f"{KEPT_CERTIFICATE_SUFFIX}{thumbprint}")


class SettingsFile:
    """The configuration file at `path`, which need not exist yet.

    A symbolic link is followed, so that writing replaces the file and not the link; at each use anew, because whoever
    mounts a configuration into a container turns it (as Kubernetes does at each change).  All methods raise
    `ConfigurationError`, or `DiskError` when the file system refuses, with a text of one line.
    """

    def __init__(
        self,
        path: Path,
        *,
        lock_wait: float = LOCK_WAIT_SECONDS,
        waiting: Callable[[], None] = lambda: None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`lock_wait`: seconds to wait for another process that is changing the same file.

        `waiting` is called once when that takes more than a moment.  A key that systemd has handed to the process whose
        `environ` is given counts over any other.
        """
        self.path = path
        self._handed_over = None if environ is None else key_of_service(environ)
        self._lock_wait = lock_wait
        self._waiting = waiting
        self._loaded: tuple[str, Settings] | None = None

    @property
    def _target(self) -> Path:
        return behind_links(self.path)

    @property
    def _key(self) -> KeyFile:
        if self._handed_over is not None:
            return KeyFileOfService(self._handed_over)
        return self._key_with(key_access(self.path))

    def _key_with(self, access: KeyAccess) -> KeyFile:
        return key_file(key_place(self.path, access), access, wait=self._lock_wait, waiting=self._waiting)

    def exists(self) -> bool:
        """Whether there is anything at the path."""
        return exists(self.path)

    def create(self, *, directory_mode: int = DIRECTORY_MODE, settings: Settings | None = None) -> bool:
        """Makes the file, with `settings` or default ones, and its missing directories.

        Returns False when the file exists: then it stays as it is, and must be one of ours.
        """
        if self.exists():
            self._read()
            return False
        if not exists(self._target.parent):
            make_directories(self._target.parent, mode=directory_mode)
        with self._hold() as sealer:
            if self.exists():
                return False
            self._write(settings or Settings(), sealer)
        return True

    def discard(self, *, with_directory: bool) -> None:
        """Removes what `create` has just made."""
        with contextlib.suppress(OSError, DiskError):
            remove_file(self._target)
            remove_file(self._key.path)
            if with_directory:
                self._target.parent.rmdir()

    def load(self) -> Settings:
        """Returns the settings in the file, which must exist; while its text stays the same, they are made once."""
        self._finish_resealing()
        text = self._text()
        if self._loaded is None or self._loaded[0] != text:
            read = document.parse(text, self.path)
            with self._key_errors():
                sealer = self._key.read() if document.holds_sealed(read) else None
            self._loaded = (
                text,
                document.to_settings(
                    read, lambda purpose, sealed: sealed if sealer is None else sealer.unseal(purpose, sealed)
                ),
            )
        return self._loaded[1]

    def home(self) -> Path:
        """Returns the home directory that the file, which must exist, asks for; nothing else in it is looked at."""
        return home_seen_from(self.path, self._read().path("home"))

    def save(self, settings: Settings) -> None:
        """Writes `settings`, whatever another process has changed since they were read; keys that are not ours stay.

        Use `update` for a change that depends on what is there.
        """
        with self._hold() as sealer:
            self._write(settings, sealer)

    def update(self, change: Callable[[Settings], Settings], *, keep_certificates: bool = False) -> Settings:
        """Replaces the settings by what `change` makes of them, with no other writer in between, and returns them.

        `change` is called under the lock: it should compute and not wait.  When it raises, the file stays as it was.
        With `keep_certificates` those that the change drops are written to files of their own first.
        """
        self._read()
        with self._hold() as sealer:
            before = self.load()
            settings = change(before)
            for lost in dropped(before, settings) if keep_certificates else ():
                self._keep(lost, kept_certificate_path(self.path, lost.thumbprint), sealer)
            self._write(settings, sealer)
        return settings

    def reseal(self, access: KeyAccess) -> Path | None:
        """Seals all secrets anew, with a new key that lies where those can open it; the old one is removed.

        Returns the path of the new one; `None` where those could already, and nothing was changed.
        """
        self._finish_resealing()
        if key_access(self.path) is access:
            return None
        with self._hold(), self._key_errors():
            now = key_access(self.path)
            settings, before, old, new = self.load(), read_bytes(self._target), self._key, self._key_with(access)
            start = f"{self._target.name}{KEPT_CERTIFICATE_SUFFIX}"
            kept_paths = sorted(path for path in self._target.parent.iterdir() if path.name.startswith(start))
            kept = []
            for path in kept_paths:
                # One that is damaged is of no use with the old key either.
                with contextlib.suppress(ConfigurationError, DiskError):
                    kept.append((path, self.unsealed_certificate(read_bytes(path), path)))
            # Whenever this ends, there is a key of root's that opens the configuration (`_finish_resealing`).  One
            # beside it is not taken for that: a script could put it there.
            unfinished = self._unfinished(now if access is KeyAccess.USER else access)
            make_directories(unfinished.path.parent, mode=DIRECTORY_MODE)
            key = new_key()
            unfinished.make(key)
            try:
                if access is KeyAccess.USER:
                    new.make(key, like=self._target)
                self._write(settings, Sealer(key))
            finally:
                # Unless that was done, the old key is the one.
                if read_bytes(self._target) == before:
                    remove_file(unfinished.path)
            for path, certificate in kept:
                if certificate is not None:
                    self._keep(certificate, path, Sealer(key))
            if access is KeyAccess.USER:
                remove_file(old.path)
                remove_file(unfinished.path)
            else:
                self._take_up(access)
        return new.path

    def _unfinished(self, access: KeyAccess) -> KeyFile:
        return key_file(unfinished_place(self.path, access), access)

    def _finish_resealing(self) -> None:
        """Makes a new key the one, if whoever made it was ended when the configuration was sealed with it already."""
        if os.geteuid() != 0 or self._handed_over is not None:
            return
        for access in ROOT_S:
            if self._is_sealed_with(self._unfinished(access)):
                with self._key_errors(), self._key.hold(like=self._target, may_make=lambda: True):
                    # Who held the lock may have been at it still.
                    if self._is_sealed_with(self._unfinished(access)):
                        self._take_up(access)

    def _is_sealed_with(self, key: KeyFile) -> bool:
        if not is_file(key.path):
            return False
        try:
            with self._key_errors():
                read = self._read()
                document.to_settings(read, key.read().unseal)
        except ConfigurationError:
            return False
        return document.holds_sealed(read)

    def _take_up(self, access: KeyAccess) -> None:
        old, new, unfinished = self._key.path, key_place(self.path, access), self._unfinished(access).path
        remove_unfinished(new)
        write_atomic(new, read_bytes(unfinished), mode=FILE_MODE, own=True)
        if old != new:
            remove_file(old)
        remove_file(unfinished)

    def unsealed_certificate(self, content: bytes, source: Path) -> StoredCertificate | None:
        """The certificate in a file that was sealed with this configuration's key; `None` for any other content."""
        if PREFIX.encode("ascii") not in content:
            return None
        with self._key_errors():
            sealer = self._key.read()
        return document.to_settings(
            document.parse(content.decode("utf-8", "replace"), source), sealer.unseal
        ).certificate

    def _keep(self, certificate: StoredCertificate, path: Path, sealer: Sealer) -> None:
        content = document.render(Settings(certificate=certificate), document.parse("", path), sealer.seal)
        remove_unfinished(path)
        write_atomic(path, content.encode("utf-8"), mode=FILE_MODE, like=self._target)

    @contextlib.contextmanager
    def _hold(self) -> Iterator[Sealer]:
        """Locks the configuration and yields its key; a key is made only while no secret needs the missing one."""
        self._finish_resealing()
        with self._key_errors():
            if not exists(self._key.path) and self._depends_on_key():
                raise self._key.missing()
            with self._key.hold(like=self._target, may_make=lambda: not self._depends_on_key()) as sealer:
                yield sealer

    @contextlib.contextmanager
    def _key_errors(self) -> Iterator[None]:
        """Raises `ConfigurationError` for a key that cannot be used, with what to do about it."""
        try:
            yield
        except KeyLocked as error:
            raise ConfigurationError(
                f"The configuration is being changed by another process, which holds '{self._key.path}' locked.",
                hint=error.hint,
            ) from None
        except KeyOfService as error:
            raise ConfigurationError(error.message, hint=OF_SERVICE_HINT) from None
        except KeyMissing as error:
            hint = RESTORE_HINT if os.geteuid() == 0 else CLOSED_HINT
            raise ConfigurationError(error.message, hint=hint) from None
        except SealingError as error:
            raise ConfigurationError(error.message, hint=error.hint or RESTORE_HINT) from None

    def _depends_on_key(self) -> bool:
        return self.exists() and document.holds_sealed(self._read())

    def _write(self, settings: Settings, sealer: Sealer) -> None:
        previous = self._read() if self.exists() else document.parse("", self.path)
        content = document.render(settings, previous, sealer.seal).encode("utf-8")
        if len(content) > LARGEST_FILE:
            raise ConfigurationError(
                f"The configuration would become larger than {LARGEST_FILE} bytes; nothing was saved."
            )
        remove_unfinished(self._target)
        write_atomic(self._target, content, mode=FILE_MODE)
        if settings.certificate is not None:
            remember_origin(self._target, settings.certificate.thumbprint)

    def _read(self) -> document.Section:
        return document.parse(self._text(), self.path)

    def _text(self) -> str:
        try:
            text = read_bytes(self.path).decode("utf-8-sig")
        except FileNotFoundError:
            problem = f"The configuration file at {self.path} could not be located at the specified location."
            raise ConfigurationError(problem) from None
        except UnicodeDecodeError:
            raise ConfigurationError(
                f"The configuration file '{self.path}' is not UTF-8 text.",
                hint=CORRECT_IT,
            ) from None
        if text.lstrip().startswith(ORIGINAL_MARKS):
            raise ConfigurationError(
                f"The configuration file '{self.path}' belongs to an original Octopus Tentacle (XML); "
                "it was not changed.",
                hint="Give another path by --config, or take that instance over with 'Tentacle import-instance'.",
            )
        return text
