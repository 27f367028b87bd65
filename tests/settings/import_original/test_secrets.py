"""Opening what the original has encrypted: its own texts, the wrong keys, damage."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from hypothesis import given
from hypothesis import strategies as st

from tentacle.settings.import_original.secrets import MACHINE_ID_IV, CannotOpen, OriginalSecrets, base64_text, readable

MACHINE_ID = "816490f117f14c7a8fa2697781ed795b"
FOOBAR = "yspqcK7xCvd5c+1OSB7kxw=="
"""What the original makes of `FooBar` on the machine with that id (docs/spec/command-line.md, "Original secrets")."""


def sealed(text: bytes, key: bytes, iv: bytes) -> str:
    padder = PKCS7(128).padder()
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    padded = padder.update(text) + padder.finalize()
    return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()


@pytest.fixture
def machine_id(tmp_path: Path) -> Path:
    path = tmp_path / "machine-id"
    path.write_text(f"{MACHINE_ID}\n")
    return path


@pytest.fixture
def machine_key(tmp_path: Path) -> Path:
    path = tmp_path / "machinekey"
    path.write_text(f"{base64.b64encode(b'k' * 32).decode()}.{base64.b64encode(b'i' * 16).decode()}")
    return path


def test_the_original_s_own_text(machine_id: Path, tmp_path: Path) -> None:
    text, key = OriginalSecrets(machine_id, tmp_path / "none").open(FOOBAR, readable)
    assert text == "FooBar"
    assert key.source == f"the machine id '{machine_id}'"
    assert MACHINE_ID not in repr(key)


def test_the_generated_key_is_tried_too_and_first_from_then_on(machine_id: Path, machine_key: Path) -> None:
    opener = OriginalSecrets(machine_id, machine_key)
    text = base64.b64encode(b"a certificate" * 50)
    assert opener.open(sealed(text, b"k" * 32, b"i" * 16), base64_text)[1].source.startswith("the machine key")
    assert opener.keys[0].source.startswith("the machine key")
    assert opener.open(sealed(b"p\xc3\xa4ss", b"k" * 32, b"i" * 16), readable)[0] == "p\xe4ss"


def test_without_the_right_key_every_source_is_named(tmp_path: Path, machine_id: Path) -> None:
    machine_id.write_text("0" * 32)
    broken = tmp_path / "broken"
    broken.write_text("x.y")
    with pytest.raises(CannotOpen) as refusal:
        OriginalSecrets(machine_id, broken).open(FOOBAR, base64_text)
    assert refusal.value.message == (
        f"cannot be decrypted: the machine id '{machine_id}' is another one, the machine key '{broken}' is corrupt"
    )
    assert "--machine-id" in (refusal.value.hint or "")


@pytest.mark.parametrize("content", ["", "short", "x" * 33, "\xe4" * 32, "\n" + "x" * 32])
def test_a_machine_id_of_another_form_is_no_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "id"
    path.write_text(content)
    opener = OriginalSecrets(path, tmp_path / "none")
    assert not opener.keys
    assert opener.problems == [
        f"the machine id '{path}' is not 32 characters long",
        f"the machine key '{tmp_path / 'none'}' does not exist",
    ]


def test_keys_that_cannot_be_read_are_problems_and_no_crash(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert not OriginalSecrets(fifo, tmp_path).keys


@pytest.mark.parametrize("text", ["", " ", "no base64!", "QUJD", base64.b64encode(b"x" * 17).decode()])
def test_damage_is_not_taken_for_a_wrong_key(machine_id: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(CannotOpen, match="is damaged"):
        OriginalSecrets(machine_id, tmp_path / "none").open(text, readable)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=100))
def test_every_password_comes_back(tmp_path_factory: pytest.TempPathFactory, password: str) -> None:
    path = tmp_path_factory.getbasetemp() / "machine-id-of-passwords"
    path.write_text(MACHINE_ID)
    text = sealed(password.encode(), MACHINE_ID.encode(), MACHINE_ID_IV)
    assert OriginalSecrets(path, path / "none").open(text, readable)[0] == password
