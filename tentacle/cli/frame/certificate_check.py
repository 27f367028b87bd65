"""Whether an identity from elsewhere can be used before it is taken: its key must be one that TLS accepts."""

from __future__ import annotations

from tentacle.cli.frame.certificate_text import summary_of_pem
from tentacle.errors import TentacleError
from tentacle.settings.certificates import USABLE_KEYS
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport.errors import TransportError
from tentacle.transport.tls import TlsIdentity


def require_usable_by_tls(found: StoredCertificate) -> None:
    """Raises TentacleError for a key with which no connection would ever come about."""
    try:
        TlsIdentity(found.certificate_pem, found.key_pem).check()
    except TransportError as error:
        key = summary_of_pem(found.certificate_pem).key
        raise TentacleError(
            f"The certificate {found.thumbprint} cannot be used: {error.message}; it is {key}.", hint=USABLE_KEYS
        ) from None
