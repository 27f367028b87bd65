"""What a run works with: its instance, the environment, and the log that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cli.streams import Deaf


def test_without_an_instance_the_traceback_goes_where_the_environment_says(tentacle: Any, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    ended = tentacle("version", stdout=Deaf(), environ={**tentacle.environ, "DefaultLogDirectory": str(folder)})
    assert ended.code == 100
    assert "RuntimeError" in (folder / "OctopusTentacle.txt").read_text()


def test_a_command_without_an_instance_and_without_trouble_writes_no_log(tentacle: Any, tmp_path: Path) -> None:
    tentacle.ok("version")
    tentacle("version", "--bogus")
    assert list((tmp_path / "home").rglob("*")) == []


def test_settings_of_the_environment_are_shown_and_never_stored(tentacle: Any, instance: Path) -> None:
    environ = {**tentacle.environ, "OCTOPUS_CONTRIBUTE_ENV_SETTINGS": "true", "TENTACLE_SERVICE_PORT": "4711"}
    tentacle.ok("configure", "--instance=I", "--noListen=true", environ=environ)
    assert '"PortNumber": 4711' in tentacle.ok("show-configuration", environ=environ).out
    assert '"PortNumber": 10933' in tentacle.ok("show-configuration").out
    assert "4711" not in (instance / "I.cfg").read_text()


def test_the_level_of_the_environment_holds_for_console_and_file(tentacle: Any, instance: Path) -> None:
    before = tentacle.log(instance)
    environ = {**tentacle.environ, "OCTOPUS__TENTACLE__LOGLEVEL": "Error"}
    assert tentacle.ok("configure", "--instance=I", "--port=1", environ=environ).out == ""
    assert tentacle.log(instance) == before
