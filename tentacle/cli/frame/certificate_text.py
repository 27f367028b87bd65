"""A certificate in words: whose it is, its key, and until when it is valid.

Knows X.509.  Must not know where a certificate came from, or whom anybody trusts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tentacle.cli.frame.style import moment
from tentacle.late_imports import LateModule
from tentacle.records import dataclass
from tentacle.settings.certificates import SIGNATURE_NAMES
from tentacle.settings.own_certificate import ALGORITHM, KEY_BITS, own_certificate
from tentacle.thumbprints import thumbprint_of

if TYPE_CHECKING:
    from cryptography import x509

    from tentacle import certificate_parsing
else:  # for one that is not as ours are
    certificate_parsing = LateModule("tentacle.certificate_parsing")

_LONGEST_NAME: Final = 200
UNREADABLE: Final = "a certificate that cannot be read"


@dataclass(frozen=True)
class CertificateSummary:
    """What a certificate says.  `ends` is in seconds since 1970; `key` is e.g. `RSA 2048 bits`."""

    thumbprint: str
    algorithm: str
    key: str
    ends: float
    der: bytes = field(repr=False)

    @property
    def subject(self) -> str:
        """Whose it is.  Read when it is asked for: names take a part of the library that is slow to load."""
        return _name(self.der, lambda certificate: certificate.subject)

    @property
    def issuer(self) -> str:
        """Who issued it."""
        return _name(self.der, lambda certificate: certificate.issuer)

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
    if own := own_certificate(pem):
        key = f"RSA {KEY_BITS} bits"
        return CertificateSummary(thumbprint_of(own.der), ALGORITHM, key, own.not_valid_after_utc.timestamp(), own.der)
    certificate = certificate_parsing.parse_certificate(pem)
    return _summary(certificate, certificate.public_bytes(Encoding.DER))


def summary_of_der(der: bytes) -> CertificateSummary:
    """The summary of what a peer has shown; where it cannot be read, its thumbprint is all that is known of it."""
    try:
        return _summary(certificate_parsing.parse_certificate(der), der)
    except ValueError:
        return CertificateSummary(thumbprint_of(der), UNREADABLE, UNREADABLE, math.nan, der)


def _summary(certificate: x509.Certificate, der: bytes) -> CertificateSummary:
    oid = certificate.signature_algorithm_oid.dotted_string
    ends = certificate.not_valid_after_utc.timestamp()
    return CertificateSummary(thumbprint_of(der), SIGNATURE_NAMES.get(oid, oid), _key(certificate), ends, der)


def _name(der: bytes, of: Callable[[x509.Certificate], x509.Name]) -> str:
    try:
        certificate = certificate_parsing.parse_certificate(der)
    except ValueError:
        return UNREADABLE
    try:
        return of(certificate).rfc4514_string()[:_LONGEST_NAME] or "(no name)"
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
