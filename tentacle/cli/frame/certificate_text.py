"""A certificate in words: how strong it is and how long it is good for.

Knows X.509.  Must not know where a certificate came from, or whom anybody trusts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tentacle.cli.frame.style import moment
from tentacle.settings.certificates import KEY_BITS, SIGNATURE_NAMES, thumbprint_of

SOON_SECONDS: Final = 30 * 86400
_WEAK: Final = ("md5", "sha1")
_LONGEST_NAME: Final = 200


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate says.  `begins` and `ends` are seconds since 1970; `key` is e.g. `RSA 2048 bits`."""

    thumbprint: str
    subject: str
    issuer: str
    algorithm: str
    key: str
    small_key: bool
    begins: float
    ends: float

    @property
    def self_signed(self) -> bool:
        """Whether it names itself as its issuer, as the certificates of Octopus Servers and Tentacles do."""
        return self.subject == self.issuer

    @property
    def day(self) -> str:
        """The last day."""
        return _day(self.ends)

    def weaknesses(self, now: float) -> list[str]:
        """What is wrong with it, in words; nothing for one that is good."""
        found = []
        if now > self.ends:
            found.append(f"it expired on {self.day}")
        elif self.ends - now < SOON_SECONDS:
            found.append(f"it expires on {self.day}")
        if now < self.begins:
            found.append(f"it is not valid before {_day(self.begins)}")
        if self.algorithm.startswith(_WEAK):
            found.append(f"its signature ({self.algorithm}) is weak")
        if self.small_key:
            found.append(f"its key ({self.key}) is short")
        return found


def facts_of_pem(pem: bytes) -> CertificateFacts:
    """The facts of a certificate in PEM form.  Raises `ValueError`."""
    return _facts(x509.load_pem_x509_certificate(pem))


def facts_of_der(der: bytes) -> CertificateFacts:
    """The facts of a certificate in DER form.  Raises `ValueError`."""
    return _facts(x509.load_der_x509_certificate(der))


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    oid = certificate.signature_algorithm_oid.dotted_string
    key, small = _key(certificate)
    return CertificateFacts(
        thumbprint_of(certificate.public_bytes(Encoding.DER)),
        certificate.subject.rfc4514_string()[:_LONGEST_NAME] or "(no name)",
        certificate.issuer.rfc4514_string()[:_LONGEST_NAME] or "(no name)",
        SIGNATURE_NAMES.get(oid, oid),
        key,
        small,
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def _key(certificate: x509.Certificate) -> tuple[str, bool]:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "a key of an unknown kind", False
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size} bits", key.key_size < KEY_BITS
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}", False
    return type(key).__name__, False


def _day(seconds: float) -> str:
    return moment(seconds)[:10]
