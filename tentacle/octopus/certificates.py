"""Which TLS certificates a REST server may show, and what to say of one that was refused.

Knows the standard library's TLS contexts and X.509.  Trust by thumbprint, which the Halibut wire uses, is elsewhere:
a REST server is trusted the way a browser does it.
"""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509

from tentacle.octopus.errors import InvalidAddress


def verifying(ca_file: Path | str | None) -> ssl.SSLContext:
    """A context that accepts what this machine trusts and, when given, what the PEM file `ca_file` holds.

    Raises `InvalidAddress` when that file cannot be used.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
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
        """The peer's certificate in DER form, or None when no handshake came so far."""
        try:
            return self.last.getpeercert(binary_form=True) if self.last else None
        except ValueError:
            return None


def thumbprint_of(der: bytes) -> str:
    """The SHA-1 thumbprint the field knows a certificate by: 40 hexadecimal digits in upper case."""
    return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()


def subject_of(der: bytes) -> str:
    """The subject of a certificate as one line of text."""
    try:
        text = x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except ValueError:
        return "an unreadable subject"
    return f"'{text[:300]}'" if text else "no subject"
