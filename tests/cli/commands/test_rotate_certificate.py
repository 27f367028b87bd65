"""`rotate-certificate`: its steps, what each says, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tentacle.settings.store import SettingsFile

KEY = "API-TESTKEY0123456789"


@pytest.fixture
def ready(tentacle: Any, instance: Path) -> SettingsFile:
    tentacle.ok("new-certificate", "--instance=I")
    return SettingsFile(instance / "I.cfg")


def thumbprint(tentacle: Any) -> str:
    shown: str = tentacle.ok("show-thumbprint", "--instance=I").out
    return shown


def test_a_new_certificate_stands_beside_the_old_one(tentacle: Any, ready: SettingsFile) -> None:
    old = thumbprint(tentacle)
    begun = tentacle.ok("rotate-certificate", "--instance=I")
    title, new, *hints = begun.lines
    assert title.startswith("A new certificate is to replace the old one, which stays in use.")
    assert thumbprint(tentacle) == old != new
    assert any("--update-server" in hint for hint in hints)
    assert all(" --instance=I" in hint for hint in hints), "what is pasted means the same instance"
    again = tentacle.ok("rotate-certificate", "--instance=I", "--format=json")
    facts = json.loads(again.out)
    assert (facts["NewThumbprint"], facts["Created"], facts["RestartRequired"]) == (new, False, False)
    finished = tentacle.ok("rotate-certificate", "--instance=I", "--finish")
    assert finished.lines == [f"The only certificate of this Tentacle is now {new}"]
    assert thumbprint(tentacle) == new
    assert ready.load().next_certificate is None


def test_a_replacement_can_be_taken_back(tentacle: Any, ready: SettingsFile) -> None:
    before = ready.load()
    tentacle.ok("rotate-certificate", "--instance=I")
    tentacle.ok("rotate-certificate", "--instance=I", "--undo")
    assert ready.load() == before


def test_another_certificate_ends_the_overlap(tentacle: Any, ready: SettingsFile) -> None:
    tentacle.ok("rotate-certificate", "--instance=I")
    tentacle.ok("new-certificate", "--instance=I")
    assert ready.load().next_certificate is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--finish"], "No certificate is being replaced."),
        (["--undo"], "No certificate is being replaced."),
        (["--finish", "--undo"], "give one of them"),
        (["--update-server"], "Please specify an Octopus Server"),
        (["--update-server", "--server=http://127.0.0.1:1", f"--apiKey={KEY}"], "No certificate is being replaced."),
    ],
)
def test_steps_that_are_not_possible(tentacle: Any, ready: SettingsFile, options: list[str], said: str) -> None:
    before = ready.load()
    refused = tentacle("rotate-certificate", "--instance=I", *options)
    assert refused.code == 1
    assert said in refused.err
    assert ready.load() == before


async def test_the_server_is_told_before_anything_is_switched(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    old = thumbprint(tentacle)
    common = (f"--server={octopus.url}", f"--apiKey={KEY}", "--instance=I")
    await tentacle.aside("register-worker", *common, "--workerpool=Linux", "--name=w", "--tentacle-comms-port=1")
    new = tentacle.ok("rotate-certificate", "--instance=I").lines[1]
    octopus.keys.clear()
    refused = await tentacle.aside("rotate-certificate", "--update-server", *common)
    assert refused.code == 1
    assert thumbprint(tentacle) == old
    octopus.keys.add(KEY)
    told = await tentacle.aside("rotate-certificate", "--update-server", *common)
    assert (told.code, told.err) == (0, "")
    assert octopus.posted[-1]["Endpoint"]["Thumbprint"] == new == thumbprint(tentacle)
    previous = ready.load().previous_certificate
    assert previous is not None
    assert previous.thumbprint == old
    taken_back = tentacle("rotate-certificate", "--instance=I", "--undo")
    assert taken_back.code == 1
    assert "cannot be taken back" in taken_back.err


async def test_a_server_that_does_not_know_us_switches_nothing(
    tentacle: Any, ready: SettingsFile, octopus: Any
) -> None:
    old = thumbprint(tentacle)
    tentacle.ok("rotate-certificate", "--instance=I")
    refused = await tentacle.aside(
        "rotate-certificate", "--instance=I", "--update-server", f"--server={octopus.url}", f"--apiKey={KEY}"
    )
    assert refused.code == 1
    assert f"The Octopus Server knows no machine with the thumbprint {old}." in refused.err
    assert thumbprint(tentacle) == old
