"""Certificates that others have made, as `cryptography` reads them: what it does not like is one kind of error.

Peers are known by the bytes of their certificate (`tentacle.thumbprints`), so that one that cannot be read is an answer
and no surprise.  Pure.  Must not know what a certificate is good for.
"""

from __future__ import annotations

import warnings

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm


def parse_certificate(data: bytes) -> x509.Certificate:
    """Returns the certificate in `data`, which is DER or PEM.  Raises `ValueError` for any that cannot be read.

    What is odd but can be read, a negative serial number say, is not warned of: who reads it here did not make it.
    """
    load = x509.load_pem_x509_certificate if data.lstrip().startswith(b"-----") else x509.load_der_x509_certificate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return load(data)
        except (x509.InvalidVersion, UnsupportedAlgorithm) as error:
            raise ValueError(str(error)) from None
