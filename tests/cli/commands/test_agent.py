"""`agent` (docs/spec/command-line.md, "agent"); its life as an ephemeral worker is in tests/e2e/test_ephemeral.py."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tentacle.agent.lock import only_agent
from tentacle.settings import certificates
from tentacle.settings.certificates import from_pem
from tentacle.settings.store import SettingsFile
from tests.patience import PATIENCE
from tests.pki import made_by_openssl


def test_the_agent_makes_its_certificate_says_where_it_listens_and_ends(tentacle: Any, instance: Path) -> None:
    tentacle.ok("configure", "--instance=I", "--port=0", "--listenIpAddress=127.0.0.1", "--trust=T")
    with tentacle.start("run", "--instance=I", "--noninteractive") as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line.rstrip("\n"))
            if "Agent listening on" in line:
                break
        process.send_signal(signal.SIGTERM)
        _, problems = process.communicate(timeout=PATIENCE)
    assert (process.returncode, problems) == (0, "")
    assert said[0] == "A new certificate has been generated and installed as none were yet available. Thumbprint:"
    assert said[1] == tentacle.ok("show-thumbprint", "--instance=I").out
    assert any(re.search(r"listen://.+:\d+/.*Listener started", line) for line in said)
    assert all(line in tentacle.log(instance) for line in said)


@pytest.mark.parametrize(
    "given", ["--workerpool=P", "--name=w", "--server=http://127.0.0.1:1", "--apiKeyStdin", "--space=S", "-f"]
)
def test_options_of_registration_are_refused_without_ephemeral(tentacle: Any, instance: Path, given: str) -> None:
    """Else a worker that was meant to register would run, and nobody would ever call it."""
    before = (instance / "I.cfg").read_bytes()
    ended = tentacle("agent", "--instance=I", "--noninteractive", given)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("The options of registration go with --ephemeral only.\nAdd it, or register")
    assert (instance / "I.cfg").read_bytes() == before


def test_a_wait_comes_first_and_a_certificate_that_is_there_stays(tentacle: Any, instance: Path) -> None:
    """The home directory is held by this process, as by an agent, so that every start ends where it would serve."""
    run, waited = ("agent", "--instance=I", "--noninteractive"), "Sleeping for 20ms..."
    with only_agent(instance):
        first = tentacle(*run, "--wait=20")
        thumbprint = tentacle.ok("show-thumbprint", "--instance=I").out
        again, at_once = tentacle(*run, "--wait=20"), tentacle(*run, "--wait=19")
    assert first.lines[0] == waited
    assert first.lines[1:] == [
        "A new certificate has been generated and installed as none were yet available. Thumbprint:",
        thumbprint,
    ]
    assert (again.lines, at_once.lines) == ([waited], [])
    for ended in (first, again, at_once):
        assert ended.code == 1
        assert "is already running for" in ended.err
    assert tentacle.ok("show-thumbprint", "--instance=I").out == thumbprint


def test_a_certificate_of_the_environment_is_used_and_none_is_made(tentacle: Any, ready: SettingsFile) -> None:
    stored = ready.load().certificate
    assert stored is not None
    pfx = certificates.export_base64(stored)
    ready.save(replace(ready.load(), certificate=None))
    tentacle.environ.update(OCTOPUS_CONTRIBUTE_ENV_SETTINGS="true", TENTACLE_CERTIFICATE=pfx)
    with only_agent(ready.path.parent):
        ended = tentacle("agent", "--instance=I", "--noninteractive")
    assert (ended.code, ended.out) == (1, "")
    assert ready.load().certificate is None


def test_a_certificate_of_the_environment_that_tls_will_not_take(tentacle: Any, instance: Path) -> None:
    made = certificates.export_base64(from_pem(*made_by_openssl(tentacle.cwd, "-newkey", "rsa:512")))
    tentacle.environ.update(OCTOPUS_CONTRIBUTE_ENV_SETTINGS="true", TENTACLE_CERTIFICATE=made)
    ended = tentacle("agent", "--instance=I", "--noninteractive")
    assert (ended.code, ended.out) == (1, "")
    assert "TLS refuses its key (ee key too small); it is RSA 512 bits" in ended.err
