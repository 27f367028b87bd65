"""Which TLS certificates a REST server may show, and how a refused one is described.

Knows the standard library's TLS contexts and X.509.  A REST server is trusted as a browser trusts it.  Trust by
thumbprint, which the Halibut wire uses, is `transport.tls`.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tentacle.certificate_parsing import parse_certificate
from tentacle.disk import DiskError, read_bytes
from tentacle.errors import one_line
from tentacle.octopus.errors import InvalidAddress, network_reason
from tentacle.pem import certificates_in
from tentacle.thumbprints import SHA1_DIGITS, clean_thumbprint, is_thumbprint

SYSTEM_STORES: Final = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)
"""What Debian, Red Hat, SUSE and Alpine trust, each in one file."""


def verifying_context(ca_file: Path | str | None) -> ssl.SSLContext:
    """Returns a context that accepts what this machine trusts, and the certificates in `ca_file` if there is one.

    The file is PEM or DER, or base64 of either.  Raises `InvalidAddress` when it cannot be used.
    """
    context = ssl.create_default_context()
    if store := system_store(ssl.get_default_verify_paths(), os.environ):
        context.load_verify_locations(cafile=store)
    if ca_file is not None:
        try:
            context.load_verify_locations(cadata=certificates_in(read_bytes(Path(ca_file))))
        except (OSError, ValueError, DiskError) as error:
            raise InvalidAddress(
                f"The certificate file {ca_file} cannot be used: {_why_unusable(error)}.",
                hint="It must hold one or more certificates, as PEM or DER.",
            ) from error
    return context


def system_store(
    usual: ssl.DefaultVerifyPaths, environ: Mapping[str, str], stores: Sequence[Path] = SYSTEM_STORES
) -> Path | None:
    """The file with what this machine trusts, where its OpenSSL was built for another kind of system; else `None`.

    The interpreter of our packages is one of Debian's, and they are installed elsewhere too.  A variable by which the
    operator has chosen certificates is never overruled.
    """
    chosen = {usual.openssl_cafile_env, usual.openssl_capath_env} & environ.keys()
    if usual.cafile or usual.capath or chosen:
        return None
    return next((path for path in stores if path.is_file()), None)


def _why_unusable(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"a certificate in it is damaged ({network_reason(error)})"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return one_line(error).rstrip(".")


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
    """Returns a thumbprint in upper case that people have pasted, see `clean_thumbprint`.

    40 hexadecimal digits are SHA-1, 64 are SHA-256.  Raises `InvalidAddress` for anything else.
    """
    pin = clean_thumbprint(text)
    if not is_thumbprint(pin):
        raise InvalidAddress(
            f"'{text[:100]}' is not the thumbprint of a certificate.",
            hint="Give 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, for example from: "
            "openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE",
        )
    return pin


def subject_of(der: bytes) -> str:
    """The subject of a certificate as one line of text."""
    try:
        text = parse_certificate(der).subject.rfc4514_string()
    except ValueError:
        return "an unreadable subject"
    return f"'{text[:300]}'" if text else "no subject"
