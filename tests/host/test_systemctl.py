"""What `systemctl` is asked, and how its answers are understood; it is played by a small script."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.host.errors import HostError, SystemctlFailed
from tentacle.host.systemctl import Systemctl, read_state, require_systemd
from tests.host.stub import SHOWN, Stub


def test_what_systemd_knows() -> None:
    state = read_state("I", SHOWN)
    assert (state.active, state.detail, state.enabled) == ("active", "running", "enabled")
    assert (state.pid, state.user, state.restarts) == (4711, "tentacle", 2)
    assert state.since == datetime(2026, 11, 23, 8, 0, 1, tzinfo=UTC)
    assert state.status == "polling 1 server(s); a=b"
    assert state.is_installed
    assert state.is_active


def test_what_it_has_never_heard_of() -> None:
    state = read_state("I", "LoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\nUser=\n")
    assert (state.enabled, state.unit, state.pid, state.since) == ("not-installed", None, None, None)
    assert not state.is_active


@given(st.text())
def test_no_answer_is_too_strange(text: str) -> None:
    read_state("I", text)


def test_commands_and_failures(stub: Stub) -> None:
    stub.systemctl.reload()
    stub.systemctl.act("start", "-I")
    assert stub.systemctl.version() == 252
    assert stub.asked == ["daemon-reload", "start -- -I.service", "--version"]
    with pytest.raises(SystemctlFailed) as caught:
        stub.systemctl.act("start", "bad")
    said = "The command 'systemctl start bad.service' failed with exit code: 5: Failed to do it: no."
    assert str(caught.value) == said
    with pytest.raises(SystemctlFailed, match="could not be run"):
        Systemctl("/nowhere/systemctl").reload()


def test_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Could not detect systemd. systemd is required to run Tentacle as a service"
    with pytest.raises(HostError, match=text):
        require_systemd(as_root=True, booted=tmp_path / "missing")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match=text):
        require_systemd(as_root=True, booted=tmp_path)
