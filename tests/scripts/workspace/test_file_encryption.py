from __future__ import annotations

import codecs
import hashlib
import io

import pytest
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.workspace.file_encryption import encrypt


def encrypted(data: bytes, password: str = "secret") -> bytes:
    target = io.BytesIO()
    encrypt(io.BytesIO(data), target, password)
    return target.getvalue()


def decrypted(data: bytes, password: str = "secret") -> bytes:
    """As the receiving script does it, by the documented format (docs/spec/services.md, "Encrypted files")."""
    assert data[:4] == b"IV__"
    key = hashlib.pbkdf2_hmac("sha1", password.encode(), b"Octopuss", 1000, 16)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(data[4:20])).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    return unpadder.update(decryptor.update(data[20:]) + decryptor.finalize()) + unpadder.finalize()


@given(st.text(), st.text(max_size=20))
def test_text_comes_back(text: str, password: str) -> None:
    data = text.encode("utf-8")
    assert decrypted(encrypted(data, password), password) == data.removeprefix(codecs.BOM_UTF8)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_text_with_a_byte_order_mark_becomes_utf8(encoding: str) -> None:
    assert decrypted(encrypted("žluť 😀".encode(encoding))) == "žluť 😀".encode()


@pytest.mark.parametrize(("mark", "encoding"), [(codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_BE, "utf-32-be")])
def test_big_endian_marks_too(mark: bytes, encoding: str) -> None:
    assert decrypted(encrypted(mark + "ž".encode(encoding))) == "ž".encode()


def test_what_is_no_text_is_replaced() -> None:
    assert decrypted(encrypted(b"a\xffb")) == "a\ufffdb".encode()


def test_each_time_another_vector() -> None:
    assert encrypted(b"same")[4:20] != encrypted(b"same")[4:20]


def test_a_character_on_the_border_of_a_read_is_whole() -> None:
    data = b"x" * (256 * 1024 - 1) + "ž".encode() + b"y" * 300_000
    assert decrypted(encrypted(data)) == data
