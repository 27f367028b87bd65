"""`set-polling-connection-count` (docs/spec/command-line.md, "set-polling-connection-count")."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tentacle.settings.store import SettingsFile

pytestmark = pytest.mark.usefixtures("instance")

RESTART = "These changes require a restart of the Tentacle."


def test_the_command_of_its_own_for_the_count(tentacle: Any) -> None:
    ended = tentacle.ok("set-polling-connection-count", "--pollingConnectionCount=5")
    assert ended.lines == ["Polling connection count set to: 5", RESTART]
    ended = tentacle("set-polling-connection-count")
    assert ended.err == "Please specify the number of polling connections, e.g. --pollingConnectionCount=5\n"
    assert ended.code == 1


def test_the_count_is_stored_and_told(tentacle: Any, instance: Path) -> None:
    ended = tentacle.ok("set-polling-connection-count", "--instance=I", "--pollingConnectionCount=3", "--format=json")
    assert json.loads(ended.out) == {"Instance": "I", "PollingConnectionCount": 3, "RestartRequired": True}
    assert SettingsFile(instance / "I.cfg").load().polling_connection_count == 3


@pytest.mark.parametrize("count", ["0", "-1", "", " ", "two", "1.5"])
def test_what_is_no_count_is_refused_and_changes_nothing(tentacle: Any, instance: Path, count: str) -> None:
    tentacle.ok("set-polling-connection-count", "--pollingConnectionCount=5")
    ended = tentacle("set-polling-connection-count", f"--pollingConnectionCount={count}")
    assert (ended.code, ended.out) == (1, "")
    assert SettingsFile(instance / "I.cfg").load().polling_connection_count == 5
