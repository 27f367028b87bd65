"""Certificates of REST servers that are not as they should be: refused with the reason, accepted where asked to."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tentacle.octopus.errors import CertificateRefused

HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def made(path: Path, *, bits: int = 2048, days: tuple[int, int] = (-1, 100), name: x509.GeneralName = HERE) -> str:
    """A self-signed certificate with its key in `path`; its SHA-256 thumbprint."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Octopus of the test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        pytest.param({"days": (-100, -1)}, "certificate has expired", id="expired"),
        pytest.param({"days": (10, 100)}, "certificate is not yet valid", id="not yet"),
        pytest.param({"name": x509.DNSName("octopus.example.com")}, "not valid for '127.0.0.1'", id="another host"),
        pytest.param({"bits": 1024}, "key too weak", id="weak"),
    ],
)
async def test_the_reason_is_given_and_no_key_is_sent(
    kind: dict[str, Any], reason: str, octopus: Any, connect: Any, tmp_path: Path
) -> None:
    pem = tmp_path / "server.pem"
    pin = made(pem, **kind)
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.set_ciphers("DEFAULT:@SECLEVEL=0")
    accepting.load_cert_chain(pem)
    server = await octopus(tls=accepting)
    with pytest.raises(CertificateRefused, match=r"self-signed|too weak|expired|not yet"):
        async with connect(server):
            pass
    with pytest.raises(CertificateRefused, match=reason) as caught:
        async with connect(server, ca_file=pem):
            pass
    assert "Octopus of the test" in str(caught.value)
    assert "--serverThumbprint" in (caught.value.hint or "")
    assert not [request for request in server.requests if "X-Octopus-ApiKey" in request.headers]
    for options in ({"pin": pin}, {"ignore_ssl_errors": True}):
        async with connect(server, **options):
            pass
    assert "X-Octopus-ApiKey" in server.requests[-1].headers


async def test_the_system_s_store_is_asked(
    octopus: Any, connect: Any, server_tls: ssl.SSLContext, certificate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable with which OpenSSL's own tools are given another store."""
    server = await octopus(tls=server_tls)
    with pytest.raises(CertificateRefused, match="self-signed certificate"):
        async with connect(server):
            pass
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with connect(server):
        pass
