"""Secrets of an original Octopus Tentacle on Linux: AES-256-CBC with a key of the machine (docs/spec/command-line.md,
"Original secrets").

Opens them only: ours are sealed by `tentacle.sealing`.  A wrong key shows by bad padding at best, so each key is tried
until one yields something that can be read.  Must not know what a secret is for.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from tentacle.disk import DiskError, read_bytes
from tentacle.records import dataclass
from tentacle.settings.errors import SettingsError

KEY_BYTES: Final = 32
IV_BYTES: Final = 16
BLOCK_BYTES: Final = 16
MACHINE_ID_IV: Final = b"743677397A244326"
WINDOWS_HEADER: Final = bytes.fromhex("01000000d08c9ddf0115d1118c7a00c04fc297eb")
"""How everything begins that Windows has encrypted (DPAPI): a version and the provider's GUID."""
LARGEST_KEY_FILE: Final = 64 * 1024
ANOTHER_MACHINE: Final = (
    "Was it configured on another machine? Copy that machine's /etc/machine-id and /etc/octopus/machinekey here "
    "and name the copies with --machine-id and --machine-key."
)

T = TypeVar("T")


class CannotOpen(SettingsError):
    """A secret that none of the keys opens, or that is damaged."""


@dataclass(frozen=True)
class MachineKey:
    """One key; `source` says where it is from, e.g. `the machine id '/etc/machine-id'`."""

    source: str
    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)

    def decrypt(self, sealed: bytes) -> bytes:
        """Returns the plain bytes.  Raises ValueError when the padding shows that the key is another one."""
        decryptor = Cipher(AES(self.key), CBC(self.iv)).decryptor()
        unpadder = PKCS7(BLOCK_BYTES * 8).unpadder()
        padded = decryptor.update(sealed) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()


def machine_id_key(path: Path) -> MachineKey:
    """The key that is the text of the machine's id.  Raises `SettingsError` when there is none in the file."""
    source = f"the machine id '{path}'"
    lines = _read(path, source).splitlines()
    key = lines[0] if lines else b""
    if len(key) != KEY_BYTES or not key.isascii():
        raise SettingsError(f"{source} is not 32 characters long")
    return MachineKey(source, key, MACHINE_ID_IV)


def generated_key(path: Path) -> MachineKey:
    """The key that the original made for itself.  Raises `SettingsError` when there is none in the file."""
    source = f"the machine key '{path}'"
    try:
        key, iv = (base64.b64decode(part, validate=True) for part in _read(path, source).strip().split(b"."))
    except (binascii.Error, ValueError):
        raise SettingsError(f"{source} is corrupt") from None
    if len(key) != KEY_BYTES or len(iv) != IV_BYTES:
        raise SettingsError(f"{source} is corrupt")
    return MachineKey(source, key, iv)


def _read(path: Path, source: str) -> bytes:
    try:
        return read_bytes(path, limit=LARGEST_KEY_FILE)
    except FileNotFoundError:
        raise SettingsError(f"{source} does not exist") from None


class OriginalSecrets:
    """Opens secrets with the keys of a machine, in the original's order: machine id, then machine key."""

    def __init__(self, machine_id: Path, machine_key: Path) -> None:
        self.keys: list[MachineKey] = []
        self.problems: list[str] = []
        """Why a key cannot be used, for each that cannot."""
        for load, path in ((machine_id_key, machine_id), (generated_key, machine_key)):
            try:
                self.keys.append(load(path))
            except (DiskError, SettingsError) as error:
                self.problems.append(error.message.rstrip("."))

    def open(self, sealed: str, read: Callable[[bytes], T]) -> tuple[T, MachineKey]:
        """Returns what `read` makes of the plain bytes, and the key that opened them, which is tried first next time.

        `read` raises ValueError for bytes that cannot be right.  Raises `CannotOpen`, whose text fits behind the name
        of what was sealed.
        """
        data = _encrypted_blocks(sealed)
        for key in self.keys:
            try:
                found = read(key.decrypt(data))
            except ValueError:
                continue
            self.keys = [key, *(other for other in self.keys if other is not key)]
            return found, key
        tried = [f"{key.source} is another one" for key in self.keys]
        raise CannotOpen(f"cannot be decrypted: {', '.join([*tried, *self.problems])}", hint=ANOTHER_MACHINE)


def _encrypted_blocks(sealed: str) -> bytes:
    try:
        data = base64.b64decode("".join(sealed.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if data.startswith(WINDOWS_HEADER):
        raise CannotOpen(
            "was encrypted by Windows, and only that machine can decrypt it",
            hint="Register this machine anew, or export the certificate there and use import-certificate here.",
        )
    if not data or len(data) % BLOCK_BYTES:
        raise CannotOpen("is damaged: it is no base64 of encrypted blocks")
    return data


def readable(plain: bytes) -> str:
    """Returns the text in decrypted bytes, for `OriginalSecrets.open`."""
    text = plain.decode("utf-8")
    if not text or "\0" in text:
        raise ValueError("no text")
    return text


def base64_text(plain: bytes) -> str:
    """Returns the base64 text in decrypted bytes, for `OriginalSecrets.open`."""
    text = plain.decode("ascii")
    base64.b64decode(text, validate=True)
    return text
