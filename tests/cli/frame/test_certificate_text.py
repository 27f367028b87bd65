"""A certificate in words, whoever made it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from tentacle.cli.frame.certificate_text import UNREADABLE, CertificateSummary, summary_of_der, summary_of_pem
from tentacle.settings import certificates, own_certificate
from tests.odd_certificates import RECIPES, odd_der
from tests.pki import made_by_openssl

KEY = ec.generate_private_key(ec.SECP256R1())
ENDS = datetime(2031, 2, 3, 23, 59, 59, tzinfo=UTC)


def made(
    subject: str, issuer: str, *, times: int = 1, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = KEY
) -> x509.Certificate:
    """A certificate whose parties have these common names; an empty one is a party without any name.

    The names are given `times` over.
    """
    subject_name, issuer_name = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)] * times if name else [])
        for name in (subject, issuer)
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(ENDS)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA384())
    )


def summary(certificate: x509.Certificate) -> CertificateSummary:
    found = summary_of_der(certificate.public_bytes(Encoding.DER))
    assert summary_of_pem(certificate.public_bytes(Encoding.PEM)) == found
    return found


def test_one_of_our_own() -> None:
    stored = certificates.generate()
    found = summary_of_pem(stored.certificate_pem)
    assert (found.thumbprint, found.algorithm, found.key) == (stored.thumbprint, "sha256RSA", "RSA 2048 bits")
    assert found.subject == found.issuer == f"CN={own_certificate.SUBJECT}"
    assert found.self_signed


def test_one_that_somebody_signed_and_its_last_day() -> None:
    found = summary(made("octopus", "An Authority"))
    assert (found.subject, found.issuer, found.self_signed) == ("CN=octopus", "CN=An Authority", False)
    assert (found.algorithm, found.key) == ("sha384ECDSA", "ECDSA secp256r1")
    assert (found.ends, found.day) == (ENDS.timestamp(), "2031-02-03")


def test_one_without_a_name_and_with_a_key_of_another_kind() -> None:
    found = summary(made("", "", key=ed25519.Ed25519PrivateKey.generate()))
    assert (found.subject, found.issuer) == ("(no name)", "(no name)")
    assert found.key.endswith("Ed25519PublicKey")
    assert found.algorithm == "1.3.101.112", "an algorithm without a name has its number"


def test_a_key_that_this_machine_does_not_know(tmp_path: Path) -> None:
    """A curve that `cryptography` has no name for; servers may show anything."""
    pem, _ = made_by_openssl(tmp_path, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp112r1")
    assert summary_of_pem(pem).key == "a key of an unknown kind"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=16))
def test_a_name_of_any_text_is_told_in_short(name: str) -> None:
    found = summary(made(name, "An Authority"))
    assert found.subject.startswith("CN=")
    assert found.issuer == "CN=An Authority"


def test_a_name_that_nobody_reads_is_cut() -> None:
    found = summary(made("s" * 64, "i" * 64, times=4))
    assert found.subject == (f"CN={'s' * 64}," * 4)[:200]
    assert found.issuer == (f"CN={'i' * 64}," * 4)[:200]


EMPTY = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("nothing", [b"", b"rubbish", EMPTY])
def test_what_is_no_certificate(nothing: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        summary_of_pem(nothing)
    assert summary_of_der(nothing).subject == UNREADABLE


@pytest.mark.parametrize("name", RECIPES)
def test_of_what_cannot_be_read_the_thumbprint_is_told(name: str) -> None:
    der = odd_der(name)
    assert summary_of_der(der).thumbprint == hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()
    assert summary_of_der(odd_der("a name that is not UTF-8")).subject == "(a name that cannot be read)"
