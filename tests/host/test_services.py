"""Services that are installed and removed, beside a `systemctl` that is a small script."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.host.errors import HostError
from tentacle.host.unit import UnitSettings, unit_texts
from tests.host.stub import SHOWN, Stub

TEXTS = unit_texts(UnitSettings("I", "tentacle", ("/bin/true",)))
OURS = TEXTS["I.service"]
FILES = {"I.service", "I@scripts.service", "I@scripts.socket"}


def test_installed_and_removed(stub: Stub) -> None:
    path = stub.services.install("I", TEXTS)
    assert path.read_text() == OURS
    assert stub.services.text("I") == OURS
    assert stub.services.texts("I") == TEXTS
    assert {one.name for one in stub.units.iterdir()} == FILES
    assert stub.asked == ["daemon-reload", "enable -- I.service"]
    stub.state.write_text(SHOWN)
    stub.services.remove("I")
    assert stub.asked == [
        *("stop -- I.service", "disable -- I.service", "stop -- I@scripts.socket", "stop -- I@scripts.service"),
        *("daemon-reload", "reset-failed -- I.service"),
    ]
    assert list(stub.units.iterdir()) == []
    stub.state.write_text("ActiveState=inactive\n")
    stub.services.remove("I")
    assert stub.asked == ["daemon-reload", "reset-failed -- I.service"], "nothing to remove is no failure"


def test_somebody_elses_service_is_left_alone(stub: Stub, tmp_path: Path) -> None:
    stub.services.require_ours("I")
    (stub.units / "I.service").write_text(OURS)
    stub.services.require_ours("I")
    (stub.units / "ssh.service").write_text("[Unit]\nDescription=ssh\n")
    with pytest.raises(HostError, match="not one that runs Tentacle"):
        stub.services.require_ours("ssh")
    (stub.units / "I@scripts.socket").write_text("[Unit]\nDescription=somebody else's\n")
    with pytest.raises(HostError, match="not one that runs Tentacle"):
        stub.services.require_ours("I")
    elsewhere = tmp_path / "cron.service"
    elsewhere.write_text("[Unit]\nDescription=cron\n")
    stub.state.write_text(f"LoadState=loaded\nFragmentPath={elsewhere}\n")
    with pytest.raises(HostError, match="not one that runs Tentacle"):
        stub.services.require_ours("cron")


def test_who_starts_a_service_is_not_refused_because_it_ended_too_often(stub: Stub) -> None:
    for verb in ("start", "restart"):
        stub.services.act(verb, "I")
        assert stub.asked == ["reset-failed -- I.service", f"{verb} -- I.service"]
    stub.services.act("stop", "I")
    assert stub.asked == ["stop -- I.service"]
