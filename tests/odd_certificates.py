"""Certificates that are put together byte by byte, as no library would make them, for tests of what peers may show.

Each is signed, and belongs to the key of `pem("odd")`; OpenSSL takes most of them, `cryptography` fewer.
"""

from __future__ import annotations

import base64
import textwrap
from dataclasses import dataclass, replace
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tests.pki import pem

SEQUENCE, SET, BOOLEAN, INTEGER, BITS, OCTETS, NULL, OID, UTF8, UTC = (
    0x30, 0x31, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x17,
)  # fmt: skip
_SHA256_RSA = bytes.fromhex("2a864886f70d01010b")
_COMMON_NAME = bytes.fromhex("550403")
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_UNKNOWN = bytes.fromhex("2a0304")


def element(tag: int, *parts: bytes, extra_length: int = 0) -> bytes:
    """One element of DER; with `extra_length` its length is written with that many bytes more than are needed."""
    content = b"".join(parts)
    if len(content) < 0x80 and not extra_length:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8 + extra_length, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


_ALGORITHM = element(SEQUENCE, element(OID, _SHA256_RSA), element(NULL))
_NAME = element(
    SEQUENCE, element(SET, element(SEQUENCE, element(OID, _COMMON_NAME), element(UTF8, b"odd")))
)  # fmt: skip


def _extension(oid: bytes, value: bytes, critical: bytes = b"") -> bytes:
    return element(SEQUENCE, element(OID, oid), critical, element(OCTETS, value))


def _extensions(*extensions: bytes) -> bytes:
    return element(0xA3, element(SEQUENCE, *extensions))


_NOT_A_CA = _extension(_BASIC_CONSTRAINTS, element(SEQUENCE))


@dataclass(frozen=True)
class Recipe:
    """The parts of a certificate, as they are encoded."""

    version: bytes = element(0xA0, element(INTEGER, b"\x02"))
    serial: bytes = element(INTEGER, b"\x01")
    inner_algorithm: bytes = _ALGORITHM
    issuer: bytes = _NAME
    since: bytes = element(UTC, b"200101000000Z")
    until: bytes = element(UTC, b"490101000000Z")
    subject: bytes = _NAME
    extensions: bytes = b""
    extra_length: int = 0

    def der(self) -> bytes:
        """The certificate, signed with SHA-256."""
        key = load_pem_private_key(pem("odd")[1], None)
        assert isinstance(key, rsa.RSAPrivateKey)
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        to_sign = element(
            SEQUENCE, self.version, self.serial, self.inner_algorithm, self.issuer,
            element(SEQUENCE, self.since, self.until), self.subject, public, self.extensions,
            extra_length=self.extra_length,
        )  # fmt: skip
        signature = key.sign(to_sign, padding.PKCS1v15(), hashes.SHA256())
        return element(SEQUENCE, to_sign, _ALGORITHM, element(BITS, b"\0", signature))


_PLAIN = Recipe()
RECIPES = {
    "version 4": replace(_PLAIN, version=element(0xA0, element(INTEGER, b"\x03"))),
    "version 1 written out": replace(_PLAIN, version=element(0xA0, element(INTEGER, b"\x00"))),
    "version 1 with extensions": replace(_PLAIN, version=b"", extensions=_extensions(_NOT_A_CA)),
    "lengths with leading zeros": replace(_PLAIN, extra_length=2),
    "a serial of zero": replace(_PLAIN, serial=element(INTEGER, b"\x00")),
    "a negative serial": replace(_PLAIN, serial=element(INTEGER, b"\xff\x01")),
    "a serial of 300 bytes": replace(_PLAIN, serial=element(INTEGER, b"\x7f" * 300)),
    "critical FALSE": replace(
        _PLAIN,
        extensions=_extensions(_extension(_BASIC_CONSTRAINTS, element(SEQUENCE), element(BOOLEAN, b"\x00"))),
    ),
    "an unknown critical extension": replace(
        _PLAIN, extensions=_extensions(_extension(_UNKNOWN, b"\x05\x00", element(BOOLEAN, b"\xff")))
    ),
    "an extension twice": replace(_PLAIN, extensions=_extensions(_NOT_A_CA, _NOT_A_CA)),
    "an extension of rubbish": replace(_PLAIN, extensions=_extensions(_extension(_BASIC_CONSTRAINTS, b"\xff\xff\xff"))),
    "no extensions in their list": replace(_PLAIN, extensions=_extensions()),
    "a date that does not exist": replace(_PLAIN, since=element(UTC, b"209999999999Z")),
    "a date that is no date": replace(_PLAIN, until=element(UTC, b"tomorrow")),
    "an end before the beginning": replace(_PLAIN, since=_PLAIN.until, until=_PLAIN.since),
    "no names": replace(_PLAIN, issuer=element(SEQUENCE), subject=element(SEQUENCE)),
    "a name that is not UTF-8": replace(_PLAIN, subject=_NAME.replace(b"odd", b"\xff\xfe\xfd")),
    "a name of control characters": replace(_PLAIN, subject=_NAME.replace(b"odd", b"\x1b[2")),
    "another algorithm inside": replace(
        _PLAIN, inner_algorithm=element(SEQUENCE, element(OID, bytes.fromhex("2a864886f70d010105")), element(NULL))
    ),
}


REFUSED_BY_OPENSSL = frozenset({"a date that is no date", "a name that is not UTF-8"})
REFUSED_BY_OPENSSL_SERVERS = frozenset({"an extension twice", "an extension of rubbish"})
"""What they do not take for their own from a file; peers take it."""


def huge_der(size: int) -> bytes:
    """A certificate with an extension of `size` bytes, more than peers take."""
    return replace(_PLAIN, extensions=_extensions(_extension(_UNKNOWN, b"\0" * size))).der()


@cache
def odd_der(name: str) -> bytes:
    """The DER form of the certificate called `name` in `RECIPES`."""
    return RECIPES[name].der()


def as_pem(der: bytes) -> bytes:
    """`der` in PEM form."""
    text = "\n".join(textwrap.wrap(base64.b64encode(der).decode("ascii"), 64))
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n".encode("ascii")
