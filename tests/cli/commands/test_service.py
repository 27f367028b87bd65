"""`service` where there is no systemd; where there is, see tests/e2e/test_systemd.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ACTIONS = ("install", "start", "stop", "restart", "reconfigure", "uninstall", "status")


@pytest.mark.parametrize("action", ACTIONS)
def test_without_systemd_there_is_one_clear_line(
    tentacle: Any, instance: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setenv("PATH", str(instance))
    ended = tentacle("service", "--instance=I", f"--{action}")
    assert (ended.code, ended.out) == (1, "")
    said, hint = ended.err.splitlines()
    assert said == "Could not detect systemd. systemd is required to run Tentacle as a service"
    assert hint.startswith("'Tentacle agent --noninteractive' is the same agent in the foreground")


def test_nothing_to_do(tentacle: Any, instance: Path) -> None:
    ended = tentacle("service", "--instance=I")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Nothing was asked of the service.\n")


def test_there_is_no_config_option(tentacle: Any, instance: Path) -> None:
    ended = tentacle("service", "--config", str(instance / "I.cfg"), "--start")
    assert ended.err.startswith(f"Unrecognized command line arguments: --config {instance}/I.cfg\n")
