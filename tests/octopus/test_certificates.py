"""Certificates of REST servers: refused with the reason, accepted where asked to, and pinned."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from tentacle.octopus.certificates import parse_pin, system_store, verifying_context
from tentacle.octopus.errors import CertificateRefused, InvalidAddress
from tentacle.octopus.proxies import ProxyUrl

HEX = "0123456789abcdefABCDEF"
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


@given(st.text(HEX, min_size=40, max_size=40) | st.text(HEX, min_size=64, max_size=64), st.sampled_from(["", ":", " "]))
def test_a_thumbprint_may_be_written_as_tools_write_it(digits: str, between: str) -> None:
    written = between.join(digits[i : i + 2] for i in range(0, len(digits), 2))
    assert parse_pin(f" {written}\n") == digits.upper()


@given(st.text(max_size=200))
def test_what_is_no_thumbprint_is_refused_in_one_line(text: str) -> None:
    try:
        assert len(parse_pin(text)) in {40, 64}
    except InvalidAddress as error:
        assert len(error.message) < 300


def test_what_the_system_trusts_is_found_where_openssl_was_built_for_another(tmp_path: Path) -> None:
    store = tmp_path / "ca-bundle.crt"
    store.touch()
    stores = (tmp_path / "missing.crt", store)
    nowhere = ssl.DefaultVerifyPaths("", "", "SSL_CERT_FILE", "/no/cert.pem", "SSL_CERT_DIR", "/no/certs")
    assert system_store(nowhere, {}, stores) == store
    assert system_store(nowhere, {}, stores[:1]) is None
    assert system_store(nowhere, {"SSL_CERT_FILE": "/no/file"}, stores) is None, "the operator's choice is not widened"
    assert system_store(nowhere._replace(capath="/etc/ssl/certs"), {}, stores) is None


def pins(certificate: tuple[Path, str]) -> list[str]:
    der = ssl.PEM_cert_to_DER_cert(certificate[0].read_text().partition("-----BEGIN PRIVATE")[0])
    return [hashlib.sha1(der).hexdigest(), hashlib.sha256(der).hexdigest().upper()]


async def test_the_pinned_certificate_is_accepted_whoever_signed_it(
    octopus: Any, connect: Any, server_tls: ssl.SSLContext, certificate: tuple[Path, str]
) -> None:
    server = await octopus(tls=server_tls)
    for pin in pins(certificate):
        async with connect(server, pin=pin) as client:
            assert (await client.root()).text("ApiVersion") == "3.0.0"


async def test_another_certificate_gets_no_key(octopus: Any, connect: Any, server_tls: ssl.SSLContext) -> None:
    server = await octopus(tls=server_tls)
    for pin in ("A" * 40, "B" * 64):
        with pytest.raises(CertificateRefused) as caught:
            async with connect(server, pin=pin):
                pass
        assert f"its thumbprint is not {pin}" in caught.value.message
        assert "CN=Octopus of the test" in caught.value.message
        assert caught.value.hint is not None
        assert "answers for it" in caught.value.hint
        assert "ignoreSslErrors" not in caught.value.hint
    assert not [recorded for recorded in server.requests if "X-Octopus-ApiKey" in recorded.headers]


async def test_a_pin_through_a_proxy(
    octopus: Any, connect: Any, server_tls: ssl.SSLContext, certificate: tuple[Path, str], tunnel: Any
) -> None:
    server = await octopus(tls=server_tls)
    async with tunnel(b"200 OK", []) as port:
        proxy = ProxyUrl("127.0.0.1", port)
        async with connect(server, pin=pins(certificate)[0], proxy=proxy) as client:
            assert await client.root()
        with pytest.raises(CertificateRefused):
            async with connect(server, pin="A" * 40, proxy=proxy):
                pass


def test_there_is_nothing_to_pin_without_tls(connect: Any) -> None:
    with pytest.raises(InvalidAddress, match="shows no certificate"):
        connect("http://octopus", pin="A" * 40)


@pytest.mark.parametrize("way", ["DER", "base64 of DER", "by PowerShell", "CRLF", "a chain"])
async def test_a_file_of_authorities_as_people_have_it(
    way: str, octopus: Any, connect: Any, server_tls: ssl.SSLContext, certificate: tuple[Path, str], tmp_path: Path
) -> None:
    pem = certificate[0].read_text().partition("-----BEGIN PRIVATE")[0]
    der = ssl.PEM_cert_to_DER_cert(pem)
    other = tmp_path / "other.pem"
    made(other)
    saved = tmp_path / "authorities"
    saved.write_bytes(
        {
            "DER": der,
            "base64 of DER": base64.encodebytes(der),
            "by PowerShell": pem.encode("utf-16"),
            "CRLF": pem.replace("\n", "\r\n").encode(),
            "a chain": other.read_bytes() + pem.encode(),
        }[way]
    )
    async with connect(await octopus(tls=server_tls), ca_file=saved) as client:
        assert await client.root()


def test_a_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    for content, why in (
        (b"words", "no certificate is in it"),
        (b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n", "holds no certificate, only: PRIVATE KEY"),
        (b"-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n", "a certificate in it is damaged"),
    ):
        file.write_bytes(content)
        with pytest.raises(InvalidAddress, match=why):
            verifying_context(file)
