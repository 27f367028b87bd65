"""`livez` (docs/spec/command-line.md, "livez")."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tentacle.agent.lock import only_agent


@pytest.mark.parametrize(
    ("age", "arguments", "said"),
    [
        (5, [], None),
        (300, [], "is stale: last written 300s ago (threshold 60s)."),
        (-5, [], None),
        (-300, [], "is stale: last written 300s in the future (threshold 60s)."),
        (90, ["--max-age=120"], None),
        (30, ["--max-age=10"], "is stale"),
        (5, ["--max-age=0"], "--max-age must be a positive number of seconds."),
        (None, [], "not found at"),
    ],
)
def test_livez(tentacle: Any, instance: Path, age: int | None, arguments: list[str], said: str | None) -> None:
    now = 1_800_000_000.0
    if age is not None:
        (instance / "livez.heartbeat").touch()
        os.utime(instance / "livez.heartbeat", (now - age, now - age))
    ended = tentacle("livez", *arguments, clock=lambda: now)
    assert (ended.code, ended.out) == (0 if said is None else 1, "")
    assert (said or "") in ended.err


def test_an_agent_that_is_not_there_is_not_alive_however_short_a_time_ago(tentacle: Any, instance: Path) -> None:
    """A killed one leaves its heartbeat and its lock file, which nobody holds."""
    with only_agent(instance):
        (instance / "livez.heartbeat").touch()
        assert tentacle("livez").code == 0
    ended = tentacle("livez")
    assert (ended.code, ended.out) == (1, "")
    assert f"The Tentacle agent is not running: nobody holds {instance / 'agent.lock'}." in ended.err


def test_an_agent_lives_although_its_configuration_was_damaged_meanwhile(tentacle: Any, instance: Path) -> None:
    (instance / "livez.heartbeat").touch()
    config = instance / "I.cfg"
    config.write_text(f"{config.read_text()}port: [\n")
    assert tentacle("livez").code == 0
    assert "is not valid YAML" in tentacle("show-thumbprint").err
