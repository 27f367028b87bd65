"""A server's identity, and an instance whose configuration is reached through a link."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tentacle.settings import certificates
from tentacle.settings.model import Settings
from tentacle.settings.store import SettingsFile
from tentacle.settings.stored_certificate import StoredCertificate


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A link to the configuration of an instance with a certificate; the key stands beside the file."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "links").mkdir(mode=0o700)
    SettingsFile(tmp_path / "real" / "T.config").save(Settings(certificate=certificates.generate()))
    link = tmp_path / "links" / "L.config"
    link.symlink_to(tmp_path / "real" / "T.config")
    return link


@pytest.fixture
def identity() -> StoredCertificate:
    return certificates.generate()


@pytest.fixture
def context(identity: StoredCertificate, tmp_path: Path) -> ssl.SSLContext:
    """What a server with that identity accepts TLS connections with."""
    pem = tmp_path / "server.pem"
    pem.write_bytes(identity.certificate_pem + identity.key_pem)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pem)
    return made
