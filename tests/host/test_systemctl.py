"""`systemctl`, played by a small script: what it is asked, and what is made of its answers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.host.errors import HostError, SystemctlFailed
from tentacle.host.services import Services
from tentacle.host.systemctl import Systemctl, read_state, require_systemd
from tentacle.host.unit import UnitSettings, unit_text

SHOWN = """\
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
FragmentPath=/etc/systemd/system/I.service
MainPID=4711
ActiveEnterTimestamp=Mon 2026-11-23 08:00:01 UTC
User=tentacle
StatusText=polling 1 server(s); a=b
NRestarts=2
"""
OURS = unit_text(UnitSettings("I", "tentacle", ("/bin/true",)))


class Stub:
    """A `systemctl` that writes down what it is asked; `show` answers with the file `state`."""

    def __init__(self, directory: Path) -> None:
        self.units = directory / "units"
        self.units.mkdir()
        self.program = directory / "systemctl"
        self._asked = directory / "asked"
        self.state = directory / "state"
        self.state.write_text("LoadState=not-found\nActiveState=inactive\n")
        self._asked.touch()
        self.program.write_text(
            f'#!/bin/sh\necho "$@" >>{self._asked}\n'
            f'case "$*" in *show*) cat {self.state};; *--version*) echo "systemd 252 (252.38-1)";;\n'
            "*bad*|*reset-failed*) printf 'Failed to do it:\\nno.\\n' >&2; exit 5;; esac\n"
        )
        self.program.chmod(0o755)
        self.systemctl = Systemctl(str(self.program))
        self.services = Services(self.units, self.systemctl, _write)

    @property
    def asked(self) -> list[str]:
        """The commands since the last look, without those that only look."""
        lines = self._asked.read_text().replace("--no-pager --no-ask-password ", "").splitlines()
        self._asked.write_text("")
        return [line for line in lines if not line.startswith("show")]


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    return Stub(tmp_path)


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


def test_installed_and_removed(stub: Stub) -> None:
    path = stub.services.install("I", OURS)
    assert path.read_text() == OURS
    assert stub.services.text("I") == OURS
    assert stub.asked == ["daemon-reload", "enable -- I.service"]
    stub.state.write_text(SHOWN)
    stub.services.remove("I")
    assert stub.asked == ["stop -- I.service", "disable -- I.service", "daemon-reload", "reset-failed -- I.service"]
    assert not path.exists()
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
    elsewhere = tmp_path / "cron.service"
    elsewhere.write_text("[Unit]\nDescription=cron\n")
    stub.state.write_text(f"LoadState=loaded\nFragmentPath={elsewhere}\n")
    with pytest.raises(HostError, match="not one that runs Tentacle"):
        stub.services.require_ours("cron")


def test_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Could not detect systemd. systemd is required to run Tentacle as a service"
    with pytest.raises(HostError, match=text):
        require_systemd(as_root=True, booted=tmp_path / "missing")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match=text):
        require_systemd(as_root=True, booted=tmp_path)
