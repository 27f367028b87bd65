"""Identities: made as the original makes them, read from what `openssl` writes, written for `openssl` to read."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from tentacle.settings import certificate_files, certificates
from tentacle.settings.errors import CertificateError
from tentacle.settings.stored_certificate import StoredCertificate
from tests.patience import PATIENCE
from tests.recorded import VECTORS

OpenSsl = Callable[..., str]


@pytest.fixture(scope="module")
def identity() -> StoredCertificate:
    return certificates.generate()


@pytest.fixture
def openssl(tmp_path: Path) -> OpenSsl:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["openssl", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def pems(tmp_path: Path, identity: StoredCertificate) -> Path:
    (tmp_path / "cert.pem").write_bytes(identity.certificate_pem)
    (tmp_path / "key.pem").write_bytes(identity.key_pem)
    return tmp_path


def test_a_generated_identity_is_what_the_original_makes() -> None:
    leap_day = datetime(2028, 2, 29, 23, 59, tzinfo=timezone(timedelta(hours=-5)))  # 1 March in UTC
    made = certificates.generate(lambda: leap_day, lambda: 2**63 - 1)
    certificate = x509.load_pem_x509_certificate(made.certificate_pem)
    assert certificate.version is x509.Version.v3
    assert list(certificate.extensions) == []
    assert certificate.serial_number == 2**63 - 1
    assert certificate.subject == certificate.issuer
    assert certificate.subject.public_bytes().hex() == "301b3119301706035504030c104f63746f7075732054656e7461636c65"
    assert certificate.not_valid_before_utc == datetime(2028, 2, 29, tzinfo=UTC)
    assert certificate.not_valid_after_utc == datetime(2128, 3, 1, tzinfo=UTC)
    key = load_pem_private_key(made.key_pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert (key.key_size, key.public_key().public_numbers().e) == (2048, 65537)
    assert certificates.signature_algorithm_name(made) == "sha256RSA"
    assert not certificates.has_small_key(made)


def test_a_hundred_years_after_the_29th_of_february() -> None:
    made = certificates.generate(lambda: datetime(2028, 2, 29, 12, tzinfo=UTC))
    assert x509.load_pem_x509_certificate(made.certificate_pem).not_valid_after_utc == datetime(2128, 2, 29, tzinfo=UTC)
    made = certificates.generate(lambda: datetime(2000, 2, 29, 12, tzinfo=UTC))
    assert x509.load_pem_x509_certificate(made.certificate_pem).not_valid_after_utc == datetime(2100, 2, 28, tzinfo=UTC)


def test_openssl_sees_the_same_thumbprint_and_checks_the_signature(
    openssl: OpenSsl, pems: Path, identity: StoredCertificate
) -> None:
    shown = openssl("x509", "-in", "cert.pem", "-noout", "-fingerprint", "-sha1")
    assert shown.strip().rpartition("=")[2].replace(":", "") == identity.thumbprint
    assert "OK" in openssl("verify", "-CAfile", "cert.pem", "cert.pem")


def test_no_key_in_what_is_shown(identity: StoredCertificate) -> None:
    assert repr(identity) == f"StoredCertificate(thumbprint='{identity.thumbprint}')"


@pytest.mark.parametrize(
    ("options", "password"),
    [
        ((), None),
        ((), ""),
        ((), "secret"),
        (("-legacy",), None),
        (("-legacy",), "pässword"),
        (("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"), None),
        (("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"), "secret"),
        (("-nomac",), None),
    ],
)
def test_a_pfx_of_openssl_is_read(
    openssl: OpenSsl, pems: Path, identity: StoredCertificate, options: tuple[str, ...], password: str | None
) -> None:
    where = ("-inkey", "key.pem", "-in", "cert.pem", "-out", "x.pfx", "-passout", f"pass:{password or ''}")
    openssl("pkcs12", "-export", *where, *options)
    assert certificate_files.load_pfx((pems / "x.pfx").read_bytes(), password) == identity


@pytest.mark.parametrize("password", [None, "", "secret"])
def test_openssl_reads_what_we_export(
    openssl: OpenSsl, tmp_path: Path, identity: StoredCertificate, password: str | None
) -> None:
    exported = certificates.export_pfx(identity, password)
    (tmp_path / "x.pfx").write_bytes(exported)
    shown = openssl("pkcs12", "-in", "x.pfx", "-nodes", "-passin", f"pass:{password or ''}")
    assert identity.certificate_pem.decode() in shown
    assert identity.key_pem.decode() in shown
    assert certificate_files.load_pfx(exported, password) == identity


def test_base64_there_and_back(identity: StoredCertificate) -> None:
    text = certificates.export_base64(identity)
    assert "\n" not in text
    assert certificate_files.load_base64(f"\ufeff{text[:70]}\r\n {text[70:]}\n") == identity


def test_the_original_s_own_export_is_read() -> None:
    """The blob of an instance that the original wrote, decrypted here (docs/spec/command-line.md,
    "Original secrets").
    """
    folder = VECTORS / "dotnet-instance"
    text = (folder / "tentacle-Legacy.config").read_text(encoding="utf-8-sig")
    blob = re.search(r'"Tentacle.Certificate">([^<]+)<', text)
    expected = re.search(r'"Tentacle.CertificateThumbprint">([^<]+)<', text)
    assert blob
    assert expected
    machine = (folder / "machine-id").read_text().strip().encode()
    decryptor = Cipher(algorithms.AES(machine), modes.CBC(b"743677397A244326")).decryptor()
    plain = decryptor.update(base64.b64decode(blob[1])) + decryptor.finalize()
    made = certificate_files.load_base64(plain[: -plain[-1]].decode())
    assert made.thumbprint == expected[1]
    assert certificates.signature_algorithm_name(made) == "sha256RSA"


def test_the_first_of_several_certificates_is_the_one_of_the_key(
    openssl: OpenSsl, pems: Path, identity: StoredCertificate
) -> None:
    (pems / "other.pem").write_bytes(certificates.generate().certificate_pem)
    openssl(
        "pkcs12",
        "-export",
        "-inkey",
        "key.pem",
        "-in",
        "cert.pem",
        "-certfile",
        "other.pem",
        "-out",
        "x.pfx",
        "-passout",
        "pass:",
    )
    told: list[str] = []
    assert certificate_files.load_file((pems / "x.pfx").read_bytes(), "dir/x.PFX", tell=told.append) == identity
    assert told == [
        "Importing the certificate stored in PFX file in dir/x.PFX...",
        "PFX file dir/x.PFX contains multiple certificates, taking the first one.",
    ]


def test_a_file_that_is_not_called_pfx_is_base64_or_else_pfx(identity: StoredCertificate) -> None:
    told: list[str] = []
    text = b"\xef\xbb\xbf" + certificates.export_base64(identity).encode()
    assert certificate_files.load_file(text, "cert.txt", "ignored", tell=told.append) == identity
    assert (
        certificate_files.load_file(certificates.export_pfx(identity, "pw"), "cert.p12", "pw", tell=told.append)
        == identity
    )
    assert told == [
        "Importing the certificate stored in cert.txt...",
        "Importing the certificate stored in cert.p12...",
        "Importing the certificate stored in PFX file in cert.p12 using the provided password...",
    ]


def test_a_pfx_without_a_private_key(openssl: OpenSsl, pems: Path) -> None:
    openssl("pkcs12", "-export", "-nokeys", "-in", "cert.pem", "-out", "x.pfx", "-passout", "pass:")
    with pytest.raises(CertificateError, match="does not include the private key"):
        certificate_files.load_pfx((pems / "x.pfx").read_bytes())
    der = openssl("x509", "-in", "cert.pem", "-outform", "PEM").split("-----")[2]
    with pytest.raises(CertificateError, match="does not include the private key"):
        certificate_files.load_base64(der)


@pytest.mark.parametrize(
    ("password", "wrong", "message"),
    [
        ("secret", "other", "the password is wrong or the file is damaged"),
        ("secret", None, "it needs a password or is damaged"),
        (None, "secret", "the password is wrong or the file is damaged"),
    ],
)
def test_a_wrong_password(identity: StoredCertificate, password: str | None, wrong: str | None, message: str) -> None:
    with pytest.raises(CertificateError, match=message) as caught:
        certificate_files.load_pfx(certificates.export_pfx(identity, password), wrong)
    assert "secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("data", [b"x" * 300, b"\x30", b"-----BEGIN CERTIFICATE-----", bytes(range(64))])
def test_garbage_is_no_pfx(data: bytes) -> None:
    with pytest.raises(CertificateError, match=r"The certificate f\.pfx is not a PFX"):
        certificate_files.load_pfx(data, source="f.pfx")


def test_empty_and_huge_files() -> None:
    with pytest.raises(CertificateError, match="is empty"):
        certificate_files.load_pfx(b"")
    with pytest.raises(CertificateError, match="is larger than"):
        certificate_files.load_pfx(b"\x30" * (certificate_files.LARGEST_IMPORT + 1))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_identity_or_a_certificate_error(data: bytes) -> None:
    with pytest.raises(CertificateError):
        certificate_files.load_file(data, "x.cer")


@given(st.data())
def test_a_damaged_pfx_is_a_certificate_error_or_the_same_identity(
    identity: StoredCertificate, data: st.DataObject
) -> None:
    damaged = bytearray(certificates.export_pfx(identity))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert certificate_files.load_pfx(bytes(damaged)) == identity
    except CertificateError as error:
        assert "\n" not in str(error)


def test_key_and_certificate_of_different_identities(identity: StoredCertificate) -> None:
    with pytest.raises(CertificateError, match="does not belong"):
        certificates.from_pem(identity.certificate_pem, certificates.generate().key_pem)


def test_a_small_key_and_another_algorithm(openssl: OpenSsl, tmp_path: Path) -> None:
    openssl("req", "-x509", "-newkey", "rsa:1024", "-sha384", "-nodes", "-keyout", "k", "-out", "c", "-subj", "/CN=x")
    small = certificates.from_pem((tmp_path / "c").read_bytes(), (tmp_path / "k").read_bytes())
    assert certificates.has_small_key(small)
    assert certificates.signature_algorithm_name(small) == "sha384RSA"
    openssl(
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "k",
        "-out",
        "c",
        "-subj",
        "/CN=x",
    )
    curve = certificates.from_pem((tmp_path / "c").read_bytes(), (tmp_path / "k").read_bytes())
    assert not certificates.has_small_key(curve)
    assert certificates.signature_algorithm_name(curve) == "sha256ECDSA"
    assert certificate_files.load_pfx(certificates.export_pfx(curve, "pw"), "pw") == curve


def test_a_key_that_tls_with_a_server_cannot_use(openssl: OpenSsl, tmp_path: Path) -> None:
    openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "k", "-out", "c", "-subj", "/CN=x")
    with pytest.raises(CertificateError, match="neither RSA nor ECDSA"):
        certificates.from_pem((tmp_path / "c").read_bytes(), (tmp_path / "k").read_bytes())
