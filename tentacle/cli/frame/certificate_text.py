"""A certificate in words: whose it is, its key, and until when it is valid.

Knows X.509.  Must not know where a certificate came from, or whom anybody trusts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tentacle.certificate_parsing import parse_certificate
from tentacle.cli.frame.style import moment
from tentacle.records import dataclass
from tentacle.settings.certificates import SIGNATURE_NAMES
from tentacle.thumbprints import thumbprint_of

_LONGEST_NAME: Final = 200
UNREADABLE: Final = "a certificate that cannot be read"


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
    """The summary of a certificate in PEM form, one that we have read before.  Raises `ValueError`."""
    certificate = parse_certificate(pem)
    return _summary(certificate, certificate.public_bytes(Encoding.DER))


def summary_of_der(der: bytes) -> CertificateSummary:
    """The summary of what a peer has shown; where it cannot be read, its thumbprint is all that is known of it."""
    try:
        return _summary(parse_certificate(der), der)
    except ValueError:
        return CertificateSummary(thumbprint_of(der), UNREADABLE, UNREADABLE, UNREADABLE, UNREADABLE, math.nan)


def _summary(certificate: x509.Certificate, der: bytes) -> CertificateSummary:
    oid = certificate.signature_algorithm_oid.dotted_string
    return CertificateSummary(
        thumbprint_of(der),
        _name(lambda: certificate.subject),
        _name(lambda: certificate.issuer),
        SIGNATURE_NAMES.get(oid, oid),
        _key(certificate),
        certificate.not_valid_after_utc.timestamp(),
    )


def _name(read: Callable[[], x509.Name]) -> str:
    try:
        return read().rfc4514_string()[:_LONGEST_NAME] or "(no name)"
    except ValueError:
        return "(a name that cannot be read)"


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
