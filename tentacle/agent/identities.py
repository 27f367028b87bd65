"""The certificates of an instance as TLS shows them.  Pure."""

from __future__ import annotations

from tentacle.errors import TentacleError
from tentacle.settings.model import Settings, other_certificate
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport.tls import TlsIdentity


def identities(settings: Settings) -> tuple[TlsIdentity, TlsIdentity | None]:
    """That in use, and the other one while it is being replaced.  Raises `TentacleError` where there is none."""
    if settings.certificate is None:
        raise TentacleError(
            "No certificate has been generated for this Tentacle.",
            hint="run: Tentacle new-certificate",
        )
    other = other_certificate(settings)
    return (
        _identity(settings.certificate, settings),
        _identity(other, settings) if other else None,
    )


def _identity(stored: StoredCertificate, settings: Settings) -> TlsIdentity:
    return TlsIdentity(stored.certificate_pem, stored.key_pem, legacy_ciphers=settings.legacy_ciphers)
