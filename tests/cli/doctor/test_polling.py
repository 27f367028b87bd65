"""Whether the right certificate answers on a port that is polled."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from contextlib import suppress
from pathlib import Path

from tentacle.cli.doctor.finding import Level
from tentacle.cli.doctor.polling import PollingPort, polling_findings, polling_target
from tentacle.cli.doctor.reach import ProbeTarget
from tentacle.settings.model import Settings
from tentacle.settings.stored_certificate import StoredCertificate
from tests.odd_certificates import as_pem, odd_der
from tests.pki import pem
from tests.sockets import silent, talking


async def test_a_certificate_that_cannot_be_read_is_known_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "odd.pem").write_bytes(as_pem(odd_der("version 4")) + pem("odd")[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "odd.pem")
    expected = hashlib.sha1(odd_der("version 4"), usedforsecurity=False).hexdigest().upper()
    async with talking(silent, context) as port:
        right = (await polling_findings(PollingPort(ProbeTarget("127.0.0.1", port), expected)))[-1]
        wrong = (await polling_findings(PollingPort(ProbeTarget("127.0.0.1", port), "A" * 40)))[-1]
    assert (right.level, right.found) == (
        Level.OK, f"a certificate that cannot be read ({expected}) answers, as trusted"
    )  # fmt: skip
    assert wrong.level is Level.FAIL


async def test_the_verdict_on_whoever_answers(identity: StoredCertificate, context: ssl.SSLContext) -> None:
    async with talking(silent, context) as port:
        target = ProbeTarget("127.0.0.1", port)
        right = (await polling_findings(PollingPort(target, identity.thumbprint.lower())))[-1]
        wrong = (await polling_findings(PollingPort(target, "A" * 40)))[-1]
        unneeded = (await polling_findings(PollingPort(target, "A" * 40, needed=False)))[-1]
    assert (right.level, right.check) == (Level.OK, "tls")
    assert wrong.level is Level.FAIL
    # No command that would trust whoever answers: it may be an interceptor.
    assert identity.thumbprint not in (wrong.advice or "")
    assert "in the portal" in (wrong.advice or "")
    assert unneeded.level is Level.WARN


async def test_a_server_with_old_ciphers_only_needs_them_to_be_allowed(
    identity: StoredCertificate, context: ssl.SSLContext
) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As servers do, and asyncio does not, it says why it refuses."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while data := await reader.read(4096):
            incoming.write(data)
            with suppress(ssl.SSLWantReadError, ssl.SSLEOFError):
                try:
                    tls.do_handshake()
                finally:
                    writer.write(outgoing.read())

    found = []
    async with talking(old) as port:
        for settings in (Settings(), Settings(legacy_ciphers=True)):
            target = polling_target("127.0.0.1", port, None, settings)
            found.append((await polling_findings(PollingPort(target, identity.thumbprint)))[-1])
    assert [one.level for one in found] == [Level.FAIL, Level.OK]
    assert "no cipher in common" in found[0].found
    assert "configure --tls-ciphers=legacy" in (found[0].advice or "")
