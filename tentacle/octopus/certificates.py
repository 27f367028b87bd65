"""Which TLS certificates a REST server may show, and how a refused one is described.

Knows the standard library's TLS contexts and X.509.  A REST server is trusted as a browser trusts it.  Trust by
thumbprint, which the Halibut wire uses, is `transport.tls`.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import stat
from pathlib import Path
from typing import Any

from cryptography import x509

from tentacle.octopus.errors import InvalidAddress

SHA1_DIGITS = 40


def verifying_context(ca_file: Path | str | None) -> ssl.SSLContext:
    """Returns a context that accepts what this machine trusts, and what the PEM file `ca_file` holds if there is one.

    Raises `InvalidAddress` when that file cannot be used.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            if not stat.S_ISREG(Path(ca_file).stat().st_mode):
                raise ValueError("it is not a regular file")  # reading from a pipe may never end
            context.load_verify_locations(cafile=str(ca_file))
        except (OSError, ValueError) as error:
            raise InvalidAddress(
                f"The certificate file {ca_file} cannot be used: {error}.",
                hint="It must hold one or more certificates in PEM form.",
            ) from error
    return context


class AcceptingContext(ssl.SSLContext):
    """A context that accepts any certificate and remembers the connection it was last used for."""

    last: ssl.SSLObject | None = None

    def __new__(cls) -> AcceptingContext:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        self.last = super().wrap_bio(*args, **kwargs)
        return self.last

    def presented(self) -> bytes | None:
        """The peer's certificate in DER form; None when there was no handshake."""
        try:
            return self.last.getpeercert(binary_form=True) if self.last else None
        except ValueError:
            return None


class _PinnedTls(ssl.SSLObject):
    """A TLS connection whose handshake fails unless the peer shows the one certificate that the context accepts."""

    def do_handshake(self) -> None:
        super().do_handshake()
        context = self.context
        assert isinstance(context, PinnedContext)
        context.check(self.getpeercert(binary_form=True))


class PinnedContext(AcceptingContext):
    """A context that accepts exactly one certificate, whoever signed it, and checks it before a request is sent."""

    def __new__(cls, pin: str) -> PinnedContext:
        """`pin` is what `parse_pin` returns."""
        context = super().__new__(cls)
        assert isinstance(context, PinnedContext)
        context.sslobject_class = _PinnedTls
        context._pin = pin
        return context

    _pin: str

    def check(self, der: bytes | None) -> None:
        """Raises `ssl.SSLCertVerificationError` unless `der` is the one certificate."""
        kind = "sha1" if len(self._pin) == SHA1_DIGITS else "sha256"
        if der is None or hashlib.new(kind, der, usedforsecurity=False).hexdigest().upper() != self._pin:
            raise ssl.SSLCertVerificationError(f"its thumbprint is not {self._pin}")


def parse_pin(text: str) -> str:
    """Returns a thumbprint that people may write in any case, with colons and blanks, in upper case without them.

    40 hexadecimal digits are SHA-1, 64 are SHA-256.  Raises `InvalidAddress` for anything else.
    """
    pin = re.sub(r"[\s:\u200e]", "", text).upper()
    if not re.fullmatch(r"[0-9A-F]{40}|[0-9A-F]{64}", pin):
        raise InvalidAddress(
            f"'{text[:100]}' is not the thumbprint of a certificate.",
            hint="Give 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, for example from: "
            "openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE",
        )
    return pin


def thumbprint_of(der: bytes) -> str:
    """The SHA-1 thumbprint of a certificate in DER form: 40 hexadecimal digits in upper case."""
    return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()


def subject_of(der: bytes) -> str:
    """The subject of a certificate as one line of text."""
    try:
        text = x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except ValueError:
        return "an unreadable subject"
    return f"'{text[:300]}'" if text else "no subject"
