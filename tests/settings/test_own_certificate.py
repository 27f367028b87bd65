"""A certificate of ours is known by its bytes and says what the library reads in it; others are left to that."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tentacle.certificate_parsing import parse_certificate
from tentacle.settings import certificates, own_certificate
from tests.odd_certificates import RECIPES, odd_der

MADE = certificates.generate().certificate_pem
DER = base64.b64decode(b"".join(MADE.splitlines()[1:-1]))
KEY = rsa.generate_private_key(65537, 2048)


def signed(
    name: str = own_certificate.SUBJECT, key: rsa.RSAPrivateKey = KEY, *, extensions: bool = False, until: int = 2050
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1)
    if extensions:
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
    dated = builder.not_valid_before(datetime(2020, 1, 1)).not_valid_after(datetime(until, 2, 3, 4, 5, 6))
    return dated.sign(key, hashes.SHA256())


def as_the_library_says(pem: bytes) -> None:
    """That whatever is taken for ours is what the library reads."""
    own = own_certificate.own_certificate(pem)
    if own is None:
        return
    read = parse_certificate(pem)
    assert (own.der, pem) == (read.public_bytes(Encoding.DER), read.public_bytes(Encoding.PEM))
    assert own.not_valid_before_utc == read.not_valid_before_utc
    assert own.not_valid_after_utc == read.not_valid_after_utc
    key = read.public_key()
    assert own.public_key == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == own_certificate.KEY_BITS
    assert certificates.SIGNATURE_NAMES[read.signature_algorithm_oid.dotted_string] == own_certificate.ALGORITHM
    assert len(read.extensions) == 0


@pytest.mark.parametrize("serial", [1, 127, 128, 255, 2**31, 2**62, 2**63 - 1])
@pytest.mark.parametrize("year", [1950, 1999, 2026, 2049, 2050, 2150])
def test_ours_are_known(serial: int, year: int) -> None:
    pem = certificates.generate(lambda: datetime(year, 3, 1, tzinfo=UTC), lambda: serial).certificate_pem
    assert own_certificate.own_certificate(pem) is not None
    as_the_library_says(pem)


@pytest.mark.parametrize(
    "other",
    [
        signed("Somebody Else ..."),
        signed(extensions=True),
        signed(key=rsa.generate_private_key(65537, 1024)),
        signed(key=rsa.generate_private_key(3, 2048)),
    ],
    ids=["name", "extensions", "bits", "exponent"],
)
def test_others_are_left_to_the_library(other: x509.Certificate) -> None:
    assert own_certificate.own_certificate(other.public_bytes(Encoding.PEM)) is None


@pytest.mark.parametrize("name", RECIPES)
def test_odd_ones_are_left_to_the_library(name: str) -> None:
    lines = base64.encodebytes(odd_der(name)).decode()
    for pem in (f"-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n".encode(), odd_der(name)):
        assert own_certificate.own_certificate(pem) is None


@pytest.mark.parametrize("text", [b"", b"\n", MADE[:-1], MADE + b"\n", b"\n" + MADE, MADE.replace(b"\n", b"\r\n"), DER])
def test_another_form_is_left_to_the_library(text: bytes) -> None:
    assert own_certificate.own_certificate(text) is None


@given(st.integers(0, len(DER) - 1), st.integers(0, 255), st.integers(0, 2), st.binary(max_size=2))
def test_one_that_was_changed_says_what_the_library_reads(at: int, byte: int, less: int, more: bytes) -> None:
    for der in (DER[:at] + bytes((byte,)) + DER[at + 1 :], DER[:at] + more + DER[at + less :]):
        text = base64.b64encode(der).decode()
        wrapped = "".join(f"{text[start : start + 64]}\n" for start in range(0, len(text), 64))
        as_the_library_says(f"-----BEGIN CERTIFICATE-----\n{wrapped}-----END CERTIFICATE-----\n".encode())
