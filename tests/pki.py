"""Certificates for tests, made once per process: RSA keys are slow to find."""

from __future__ import annotations

import datetime
import subprocess
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tentacle.transport.tls import TlsIdentity

YEARS = (2020, 2120)


def pem(name: str, years: tuple[int, int] = YEARS) -> tuple[bytes, bytes]:
    """Certificate and key of the party called `name`, PEM, valid between these years; the same for the whole run."""
    return _made(name, years)


@cache
def _made(name: str, years: tuple[int, int]) -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(years[0], 1, 1))
        .not_valid_after(datetime.datetime(years[1], 1, 1))
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


@cache
def identity(name: str, years: tuple[int, int] = YEARS) -> TlsIdentity:
    return TlsIdentity(*pem(name, years))


def write_pem(name: str, directory: Path) -> tuple[Path, Path]:
    """The same as files, for programs of other makes."""
    certificate, key = pem(name)
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    paths[0].write_bytes(certificate)
    paths[1].write_bytes(key)
    return paths


def made_by_openssl(directory: Path, *options: str) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, PEM, of a kind that is not made here, e.g. `-sha1`, `-newkey rsa:1024`."""
    paths = directory / "openssl.crt", directory / "openssl.key"
    files = ["-out", str(paths[0]), "-keyout", str(paths[1])]
    command = ["openssl", "req", "-x509", "-nodes", "-subj", "/CN=x", *files, *options]
    subprocess.run(command, check=True, capture_output=True)
    return paths[0].read_bytes(), paths[1].read_bytes()
