"""Whether the right certificate answers on a port that is polled."""

from __future__ import annotations

import ssl

from tentacle.cli.doctor.finding import Level
from tentacle.cli.doctor.polling import PollingPort, polling_findings
from tentacle.cli.doctor.reach import ProbeTarget
from tentacle.settings.certificates import StoredCertificate
from tests.sockets import silent, talking


async def test_the_verdict_on_whoever_answers(identity: StoredCertificate, context: ssl.SSLContext) -> None:
    async with talking(silent, context) as port:
        target = ProbeTarget("127.0.0.1", port)
        right = (await polling_findings(PollingPort(target, identity.thumbprint.lower())))[-1]
        wrong = (await polling_findings(PollingPort(target, "A" * 40)))[-1]
        unneeded = (await polling_findings(PollingPort(target, "A" * 40, needed=False)))[-1]
    assert (right.level, right.check) == (Level.OK, "tls")
    assert wrong.level is Level.FAIL
    assert f"--oldThumbprint={'A' * 40} --newThumbprint={identity.thumbprint}" in (wrong.advice or "")
    assert unneeded.level is Level.WARN
