"""This Tentacle's identity, a private key with its self-signed certificate: made, judged and exported.

Knows X.509 and PKCS#12 through `cryptography`.  How one is read from a file is `certificate_files.py`.  Must not know
where a certificate is stored, nor which servers are trusted (`trust.py`).
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from tentacle.late_imports import LateModule
from tentacle.settings.errors import CertificateError
from tentacle.settings.own_certificate import ALGORITHM as OWN_ALGORITHM
from tentacle.settings.own_certificate import KEY_BITS, SUBJECT, OwnCertificate, own_certificate
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.thumbprints import thumbprint_of

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import pkcs12

    from tentacle import certificate_parsing
else:  # for one that is not as ours are, and to make one or export it
    certificate_parsing = LateModule("tentacle.certificate_parsing")
    x509 = LateModule("cryptography.x509")
    pkcs12 = LateModule("cryptography.hazmat.primitives.serialization.pkcs12")

VALID_YEARS = 100
SOON = timedelta(days=60)
"""From how long before its end a certificate is warned of."""
USABLE_KEYS = (
    "Use RSA with 2048 bits or more, or ECDSA on P-256, P-384 or P-521; 'Tentacle new-certificate' makes such a key."
)
SIGNATURE_NAMES = {
    "1.2.840.113549.1.1.4": "md5RSA",
    "1.2.840.113549.1.1.5": "sha1RSA",
    "1.2.840.113549.1.1.11": "sha256RSA",
    "1.2.840.113549.1.1.12": "sha384RSA",
    "1.2.840.113549.1.1.13": "sha512RSA",
    "1.2.840.113549.1.1.10": "RSASSA-PSS",
    "1.2.840.10045.4.1": "sha1ECDSA",
    "1.2.840.10045.4.3.2": "sha256ECDSA",
    "1.2.840.10045.4.3.3": "sha384ECDSA",
    "1.2.840.10045.4.3.4": "sha512ECDSA",
}
"""What .NET calls a signature algorithm, by object identifier."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def generate(
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    serial: Callable[[], int] = lambda: secrets.randbelow(2**63 - 1) + 1,
) -> StoredCertificate:
    """Returns a new identity with the properties of the original's (docs/spec/command-line.md,
    "Properties of a generated certificate"): RSA 2048, no extensions.

    It is valid from yesterday's midnight UTC to a hundred years after today's; `serial` returns 1 to 2^63-1.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, SUBJECT)])
    today = datetime.combine(now().astimezone(UTC).date(), time.min)
    try:
        end = today.replace(year=today.year + VALID_YEARS)
    except ValueError:  # the 29th of February
        end = today.replace(year=today.year + VALID_YEARS, day=28)
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name)
        .public_key(key.public_key())
        .serial_number(serial())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    return _stored(certificate, key)


def from_pem(certificate_pem: bytes, key_pem: bytes) -> StoredCertificate:
    """Returns the identity in two PEM texts.  Raises `CertificateError` for damage, and for two that do not match."""
    if (own := own_certificate(certificate_pem)) and (stored := _own_identity(own, certificate_pem, key_pem)):
        return stored
    try:
        certificate = certificate_parsing.parse_certificate(certificate_pem)
        key = _load_key(key_pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError("The certificate or its private key is damaged.") from None
    return identity_of(certificate, key)


def export_pfx(stored: StoredCertificate, password: str | None = None) -> bytes:
    """Returns a PKCS#12 file: encrypted by AES-256 with a password, and not at all without one."""
    certificate, key = _parsed(stored)
    try:
        encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    except UnicodeEncodeError:
        raise CertificateError("The password of the PFX file is not UTF-8 text.") from None
    return pkcs12.serialize_key_and_certificates(None, key, certificate, None, encryption)


def export_base64(stored: StoredCertificate) -> str:
    """Returns base64 of a PKCS#12 without a password, in one line.

    A file of the original starts with a byte order mark; here there is none.
    """
    return base64.b64encode(export_pfx(stored)).decode("ascii")


def signature_algorithm_name(stored: StoredCertificate) -> str:
    """Returns .NET's name of the signature algorithm, e.g. `sha256RSA`, or its object identifier where it has none."""
    if own_certificate(stored.certificate_pem):
        return OWN_ALGORITHM
    oid = certificate_parsing.parse_certificate(stored.certificate_pem).signature_algorithm_oid.dotted_string
    return SIGNATURE_NAMES.get(oid, oid)


def has_small_key(stored: StoredCertificate) -> bool:
    """Whether the private key is RSA of fewer bits than are recommended (2048)."""
    key = _parsed(stored)[1]
    return isinstance(key, rsa.RSAPrivateKey) and key.key_size < KEY_BITS


def weaknesses(stored: StoredCertificate, now: datetime) -> tuple[str, ...]:
    """Returns why a certificate should be replaced, each reason to be read after its name.

    Servers know it by its thumbprint and look neither at its dates nor at its signature (docs/spec/wire.md,
    "Thumbprints and trust"), so that none of this keeps an agent from working.  The private key is not looked at.
    """
    found = list(ailments(stored, now))
    if own_certificate(stored.certificate_pem):
        return tuple(found)
    key = certificate_parsing.parse_certificate(stored.certificate_pem).public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < KEY_BITS:
        found.append(f"has an RSA key of {key.key_size} bits, fewer than {KEY_BITS}")
    return tuple(found)


def ailments(stored: StoredCertificate, now: datetime) -> tuple[str, ...]:
    """As `weaknesses`, of the dates and the signature only; for the key see `has_small_key`."""
    pem = stored.certificate_pem
    certificate = own_certificate(pem) or certificate_parsing.parse_certificate(pem)
    found = []
    if (until := certificate.not_valid_after_utc) <= now:
        found.append(f"has expired on {until:%Y-%m-%d}")
    elif until - now <= SOON:
        found.append(f"expires on {until:%Y-%m-%d}")
    if (since := certificate.not_valid_before_utc) > now:
        found.append(f"is not valid before {since:%Y-%m-%d}; is this machine's clock right?")
    name = signature_algorithm_name(stored)
    if name.startswith(("md5", "sha1")):
        found.append(f"is signed with a weak algorithm ({name})")
    return tuple(found)


def identity_of(certificate: x509.Certificate, key: object) -> StoredCertificate:
    """Returns the identity of a certificate and its key.  Raises `CertificateError` for two that do not match."""
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise CertificateError("The private key of the certificate is neither RSA nor ECDSA.", hint=USABLE_KEYS)
    try:
        belongs = certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):
        belongs = False
    if not belongs:
        raise CertificateError("The private key does not belong to the certificate.")
    return _stored(certificate, key)


def _stored(certificate: x509.Certificate, key: PrivateKey) -> StoredCertificate:
    return StoredCertificate(
        thumbprint_of(certificate.public_bytes(Encoding.DER)),
        certificate.public_bytes(Encoding.PEM),
        _key_pem(key),
    )


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _own_identity(own: OwnCertificate, certificate_pem: bytes, key_pem: bytes) -> StoredCertificate | None:
    """The identity, unless there is something to say about the key."""
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = _load_key(key_pem)
        if isinstance(key, rsa.RSAPrivateKey) and own.public_key == key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ):
            return StoredCertificate(thumbprint_of(own.der), certificate_pem, _key_pem(key))
    return None


def _load_key(pem: bytes) -> object:
    # A key that is ours was checked when it was made or imported; testing its primes again costs 60 ms each time.
    return load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)


def _parsed(stored: StoredCertificate) -> tuple[x509.Certificate, PrivateKey]:
    key = _load_key(stored.key_pem)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise CertificateError("The private key of the certificate is neither RSA nor ECDSA.")
    return certificate_parsing.parse_certificate(stored.certificate_pem), key
