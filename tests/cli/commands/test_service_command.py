"""`service` where there is no systemd; where there is, see tests/e2e/test_systemd.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tentacle.cli.service.control import ServiceWishes

ACTIONS = ("install", "start", "stop", "restart", "reconfigure", "uninstall", "status")


@pytest.mark.parametrize("action", ACTIONS)
def test_without_systemd_there_is_one_clear_line(
    tentacle: Any, instance: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setenv("PATH", str(instance))
    ended = tentacle("service", "--instance=I", f"--{action}")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "Could not detect systemd. systemd is required to run Tentacle as a service\n"


def test_nothing_to_do(tentacle: Any, instance: Path) -> None:
    ended = tentacle("service", "--instance=I")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Nothing was asked of the service.\n")


def test_there_is_no_config_option(tentacle: Any, instance: Path) -> None:
    ended = tentacle("service", "--config", str(instance / "I.cfg"), "--start")
    assert ended.err.startswith(f"Unrecognized command line arguments: --config {instance}/I.cfg\n")


def wishes(environ: dict[str, str], **given: Any) -> ServiceWishes:
    options = {**dict.fromkeys(ACTIONS, False), "username": None, "depend_on": None}
    return ServiceWishes.of({**options, **given}, environ)


def test_the_user_comes_from_the_option_then_from_the_environment() -> None:
    variable = {"OCTOPUS_SERVICE_USERNAME": "env"}
    assert wishes(variable, username="given").username == "given"
    assert wishes(variable, username=" ").username == "env"
    assert wishes({}).username is None
    assert wishes({}, depend_on="a b").after == ("a.service", "b.service")


def test_a_look_needs_no_rights() -> None:
    assert not wishes({}).actions
    assert wishes({}, status=True).actions
    assert not wishes({}, status=True).changes
    assert wishes({}, start=True).changes
