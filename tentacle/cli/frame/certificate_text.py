"""A certificate in words: whose it is, its key, and until when it is valid.

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
from tentacle.settings.certificates import SIGNATURE_NAMES
from tentacle.thumbprints import thumbprint_of

_LONGEST_NAME: Final = 200


@dataclass(frozen=True)
class CertificateSummary:
    """What a certificate says.  `ends` is in seconds since 1970; `key` is e.g. `RSA 2048 bits`."""

    thumbprint: str
    subject: str
    issuer: str
    algorithm: str
    key: str
    ends: float

    @property
    def self_signed(self) -> bool:
        """Whether it names itself as its issuer, as the certificates of Octopus Servers and Tentacles do."""
        return self.subject == self.issuer

    @property
    def day(self) -> str:
        """The last day."""
        return moment(self.ends)[:10]


def summary_of_pem(pem: bytes) -> CertificateSummary:
    """The summary of a certificate in PEM form.  Raises `ValueError`."""
    return _summary(x509.load_pem_x509_certificate(pem))


def summary_of_der(der: bytes) -> CertificateSummary:
    """The summary of a certificate in DER form.  Raises `ValueError`."""
    return _summary(x509.load_der_x509_certificate(der))


def _summary(certificate: x509.Certificate) -> CertificateSummary:
    oid = certificate.signature_algorithm_oid.dotted_string
    return CertificateSummary(
        thumbprint_of(certificate.public_bytes(Encoding.DER)),
        certificate.subject.rfc4514_string()[:_LONGEST_NAME] or "(no name)",
        certificate.issuer.rfc4514_string()[:_LONGEST_NAME] or "(no name)",
        SIGNATURE_NAMES.get(oid, oid),
        _key(certificate),
        certificate.not_valid_after_utc.timestamp(),
    )


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "a key of an unknown kind"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    return type(key).__name__
