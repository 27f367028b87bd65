"""Files that only the receiving script shall read (docs/spec/services.md, "Encrypted files").

Format: the bytes `IV__`, 16 bytes of initialisation vector, AES-128-CBC with PKCS7 padding.  The key is PBKDF2 with
HMAC-SHA1, salt `Octopuss`, 1000 rounds.  What is encrypted is text: the content is read with the encoding that its
byte order mark names, else as UTF-8, and stored as UTF-8 without the mark.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

_PREFIX = b"IV__"
_SALT = b"Octopuss"
_ROUNDS = 1000
_KEY_BYTES = 16
_CHUNK = 256 * 1024

_MARKS: tuple[tuple[bytes, str], ...] = (
    # The four-byte marks first: two of them begin like a two-byte one.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def encrypt(source: BinaryIO, target: BinaryIO, password: str, random: Callable[[int], bytes] = os.urandom) -> None:
    """Writes the text in `source` encrypted to `target`, in bounded memory."""
    sha1 = hashes.SHA1()  # noqa: S303 - the receiving script decides
    derivation = PBKDF2HMAC(sha1, length=_KEY_BYTES, salt=_SALT, iterations=_ROUNDS)
    key, vector = derivation.derive(password.encode("utf-8", "replace")), random(16)
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    padder = padding.PKCS7(128).padder()
    target.write(_PREFIX + vector)
    for text in _as_utf8(source):
        target.write(encryptor.update(padder.update(text)))
    target.write(encryptor.update(padder.finalize()) + encryptor.finalize())


def _as_utf8(source: BinaryIO) -> Iterator[bytes]:
    chunk = source.read(_CHUNK)
    mark, encoding = next(((m, e) for m, e in _MARKS if chunk.startswith(m)), (b"", "utf-8"))
    chunk = chunk[len(mark) :]
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    while chunk:
        yield decoder.decode(chunk).encode()
        chunk = source.read(_CHUNK)
    yield decoder.decode(b"", final=True).encode()
