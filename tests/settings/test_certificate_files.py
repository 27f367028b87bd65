"""Identities in files as people have them, made by openssl."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.settings import certificates
from tentacle.settings.certificate_files import NotBase64Error, load_base64, load_file
from tentacle.settings.certificates import from_pem
from tentacle.settings.errors import CertificateError
from tentacle.settings.stored_certificate import StoredCertificate
from tests.patience import PATIENCE
from tests.pki import pem

OWN = from_pem(*pem("own"))
OTHER = from_pem(*pem("other"))
CERTIFICATE, KEY = OWN.certificate_pem, OWN.key_pem

OpenSsl = Callable[..., bytes]


@pytest.fixture
def openssl(tmp_path: Path) -> OpenSsl:
    """Runs openssl where certificate and key of the identity are; its output."""
    (tmp_path / "c.pem").write_bytes(CERTIFICATE)
    (tmp_path / "k.pem").write_bytes(KEY)

    def run(*arguments: str) -> bytes:
        return subprocess.run(
            ["openssl", *arguments], cwd=tmp_path, capture_output=True, timeout=PATIENCE, check=True
        ).stdout

    return run


PFX = certificates.export_pfx(OWN)
LOCKED = certificates.export_pfx(OWN, "secret")


@pytest.mark.parametrize("name", ["worker.pfx", "worker.p12", "worker.pem", "worker.txt", "worker"])
@pytest.mark.parametrize(
    ("data", "password"),
    [
        pytest.param(PFX, None, id="pfx"),
        pytest.param(PFX, "", id="pfx, empty password"),
        pytest.param(LOCKED, "secret", id="pfx with password"),
        pytest.param(base64.b64encode(PFX), None, id="base64"),
        pytest.param(base64.b64encode(PFX), "not needed", id="base64, a password that is not needed"),
        pytest.param(base64.b64encode(LOCKED), "secret", id="base64 with password"),
        pytest.param(base64.encodebytes(PFX).decode().encode("utf-16"), None, id="base64 by PowerShell"),
        pytest.param(CERTIFICATE + KEY, None, id="PEM"),
        pytest.param(KEY + CERTIFICATE, "not needed", id="PEM, key first"),
        pytest.param(KEY + OTHER.certificate_pem + CERTIFICATE, None, id="PEM with a chain, issuer first"),
        pytest.param(OTHER.key_pem + CERTIFICATE + KEY, None, id="PEM with another key"),
    ],
)
def test_the_content_counts_and_not_the_name(data: bytes, password: str | None, name: str) -> None:
    assert load_file(data, name, password) == OWN


@pytest.mark.parametrize(
    "options",
    [
        ("rsa", "-in", "k.pem", "-traditional"),
        ("rsa", "-in", "k.pem", "-traditional", "-aes256", "-passout", "pass:secret"),
        ("rsa", "-in", "k.pem", "-traditional", "-des3", "-passout", "pass:secret"),
        ("pkcs8", "-topk8", "-in", "k.pem", "-passout", "pass:secret"),
        ("pkcs8", "-topk8", "-in", "k.pem", "-passout", "pass:secret", "-v1", "PBE-SHA1-3DES"),
    ],
)
def test_keys_as_openssl_writes_them(openssl: OpenSsl, options: tuple[str, ...]) -> None:
    key = openssl(*options)
    assert load_file(CERTIFICATE + key, "x.pem", "secret") == OWN
    if b"ENCRYPTED" in key:
        with pytest.raises(CertificateError, match=r"is encrypted with a password") as caught:
            load_file(CERTIFICATE + key, "x.pem")
        assert "--pfx-password" in (caught.value.hint or "")
        with pytest.raises(CertificateError, match="the password is wrong or the file is damaged"):
            load_file(CERTIFICATE + key, "x.pem", "wrong")


def test_what_openssl_takes_out_of_a_pfx_with_its_attributes(openssl: OpenSsl, tmp_path: Path) -> None:
    (tmp_path / "x.pfx").write_bytes(PFX)
    assert load_file(openssl("pkcs12", "-in", "x.pfx", "-passin", "pass:", "-nodes"), "x.pfx") == OWN


def test_a_key_with_its_parameters_in_front(openssl: OpenSsl, tmp_path: Path) -> None:
    (tmp_path / "ec.pem").write_bytes(openssl("ecparam", "-name", "prime256v1", "-genkey"))
    made = openssl("req", "-x509", "-key", "ec.pem", "-subj", "/CN=x")
    assert load_file((tmp_path / "ec.pem").read_bytes() + made, "x.pem").certificate_pem == made


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(CERTIFICATE, "does not include the private key", id="certificate alone"),
        pytest.param(KEY, "holds no certificate, only: PRIVATE KEY", id="key alone"),
        pytest.param(OTHER.key_pem + CERTIFICATE, "does not belong to the certificate", id="another key"),
        pytest.param(bytes.fromhex("feedfeed00000002"), r"Java key store \(JKS\)", id="JKS"),
        pytest.param(b" \r\n", "is empty", id="blanks"),
        pytest.param(b"just words", "is not a PFX", id="words"),
        pytest.param(CERTIFICATE.replace(b"MII", b"AAA", 1) + KEY, "is damaged", id="damaged"),
    ],
)
def test_what_is_something_else_is_named(data: bytes, message: str) -> None:
    for name in ("x.pfx", "x.pem"):
        with pytest.raises(CertificateError, match=message) as caught:
            load_file(data, name)
        assert "\n" not in caught.value.message


def test_der_is_named_too(openssl: OpenSsl) -> None:
    for command, message in (
        (("x509", "-in", "c.pem", "-outform", "DER"), "does not include the private key"),
        (("rsa", "-in", "k.pem", "-outform", "DER"), "holds a private key without its certificate"),
        (("pkcs8", "-topk8", "-in", "k.pem", "-outform", "DER", "-passout", "pass:x"), "without its certificate"),
        (("crl2pkcs7", "-nocrl", "-certfile", "c.pem", "-outform", "DER"), "does not include the private key"),
    ):
        with pytest.raises(CertificateError, match=message):
            load_file(openssl(*command), "x.cer")


def test_text_as_an_argument_may_be_pem_or_need_a_password() -> None:
    assert load_base64((CERTIFICATE + KEY).decode()) == OWN
    assert load_base64(base64.b64encode(CERTIFICATE + KEY).decode()) == OWN
    assert load_base64(base64.b64encode(LOCKED).decode(), "secret") == OWN
    with pytest.raises(NotBase64Error, match="not valid base64"):
        load_base64("no base64!")


@given(st.binary(max_size=200))
def test_any_text_is_an_identity_or_a_certificate_error(data: bytes) -> None:
    for label in (b"CERTIFICATE", b"PRIVATE KEY", b"RSA PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"):
        block = b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label, base64.encodebytes(data), label)
        for given_data in (block, CERTIFICATE + block, KEY + block):
            with pytest.raises(CertificateError):
                load_file(given_data, "x.pem", "secret")


def test_nothing_of_a_key_is_shown() -> None:
    assert isinstance(OWN, StoredCertificate)
    with pytest.raises(CertificateError) as caught:
        load_file(KEY, "x.pem")
    assert KEY.splitlines()[1].decode() not in f"{caught.value!r} {caught.value.hint}"
