"""Replacing a certificate with overlap: the states, what is stored, and what speaks against a certificate."""

from __future__ import annotations

import datetime
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tentacle.settings import certificates, rotation
from tentacle.settings.certificates import weaknesses
from tentacle.settings.errors import SettingsError
from tentacle.settings.model import Settings, other_certificate
from tentacle.settings.store import SettingsFile
from tentacle.settings.stored_certificate import StoredCertificate

NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)


@cache
def made(name: str) -> StoredCertificate:
    assert name
    return certificates.generate()


START = Settings(certificate=made("old"))
BEGUN = replace(START, next_certificate=made("new"))
TOLD = replace(START, certificate=made("new"), previous_certificate=made("old"))
FINISHED = replace(START, certificate=made("new"))


def test_the_way_from_one_certificate_to_the_other() -> None:
    assert rotation.begin(START, made("new")) == BEGUN
    assert rotation.begin(BEGUN, made("third")) == BEGUN
    assert rotation.switch(BEGUN) == TOLD
    assert rotation.switch(TOLD) == TOLD
    assert rotation.switch(START) == START
    assert rotation.finish(TOLD) == FINISHED
    assert rotation.finish(BEGUN) == FINISHED
    assert rotation.undo(BEGUN) == START
    assert [other_certificate(s) for s in (START, BEGUN, TOLD)] == [None, made("new"), made("old")]


def test_steps_that_are_not_possible_say_what_is() -> None:
    with pytest.raises(SettingsError, match="no certificate to replace"):
        rotation.begin(Settings(), made("new"))
    with pytest.raises(SettingsError, match="is still being replaced") as caught:
        rotation.begin(TOLD, made("third"))
    assert "--finish" in str(caught.value.hint)
    with pytest.raises(SettingsError, match="cannot be taken back"):
        rotation.undo(TOLD)
    for step in (rotation.finish, rotation.undo):
        with pytest.raises(SettingsError, match="No certificate is being replaced"):
            step(START)


@pytest.mark.parametrize("settings", [BEGUN, TOLD], ids=["begun", "told"])
def test_both_are_stored_sealed_and_read_again(settings: Settings, tmp_path: Path) -> None:
    file = SettingsFile(tmp_path / "t.config")
    file.create()
    file.save(settings)
    text = file.path.read_text()
    assert "PRIVATE KEY" not in text
    assert text.count("private-key: sealed:1:") == 2
    assert file.load() == settings
    file.update(rotation.finish)
    assert file.load() == FINISHED
    assert file.path.read_text().count("private-key:") == 1


def test_a_sealed_key_cannot_be_moved_to_another_name(tmp_path: Path) -> None:
    file = SettingsFile(tmp_path / "t.config")
    file.create()
    file.save(BEGUN)
    file.path.write_text(file.path.read_text().replace("next-certificate:", "previous-certificate:"))
    with pytest.raises(SettingsError, match=r"previous-certificate\.private-key cannot be unsealed"):
        file.load()


def certificate(bits: int = 2048, days: tuple[int, int] = (-1, 1000)) -> StoredCertificate:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(NOW + datetime.timedelta(days=days[0]))
        .not_valid_after(NOW + datetime.timedelta(days=days[1]))
        .sign(key, hashes.SHA256())
    )
    return certificates.from_pem(
        built.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def test_a_certificate_of_ours_has_no_weakness() -> None:
    assert weaknesses(made("old"), datetime.datetime.now(datetime.UTC)) == ()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"days": (-10, -1)}, "has expired on 2026-11-22"),
        ({"days": (-10, 30)}, "expires on 2026-12-23"),
        ({"days": (2, 1000)}, "is not valid before 2026-11-25; is this machine's clock right?"),
        ({"bits": 1024}, "has an RSA key of 1024 bits, fewer than 2048"),
    ],
    ids=["expired", "soon", "not yet", "small"],
)
def test_what_speaks_against_a_certificate(found: Any, said: str) -> None:
    assert weaknesses(certificate(**found), NOW) == (said,)


def test_a_weak_signature_is_named(tmp_path: Path) -> None:
    """As of a certificate that an old tool has made."""
    command = ["openssl", "req", "-x509", "-sha1", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "1000"]
    files = [tmp_path / "crt", tmp_path / "key"]
    subprocess.run([*command, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    old = certificates.from_pem(files[0].read_bytes(), files[1].read_bytes())
    assert weaknesses(old, datetime.datetime.now(datetime.UTC)) == ("is signed with a weak algorithm (sha1RSA)",)
