"""A certificate with its private key, as it is stored; must not know how one is made or judged (`certificates.py`)."""

from __future__ import annotations

from dataclasses import field

from tentacle.records import dataclass


@dataclass(frozen=True)
class StoredCertificate:
    """A certificate and its private key, each as unencrypted PEM; `thumbprint` is SHA-1 of the DER, 40 hex digits."""

    thumbprint: str
    certificate_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)
