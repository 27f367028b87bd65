"""What a run works with: its instance, the environment, and the log that it writes."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tentacle.agent.lock import only_agent
from tentacle.cli.frame.restart import Effect
from tentacle.cli.frame.session import CommandSession, InstanceOptions, ProcessContext, current_directory
from tentacle.settings.model import Settings
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


def session(tentacle: Any, **changes: Any) -> CommandSession:
    out = io.StringIO()
    context = ProcessContext(environ=tentacle.environ, cwd=tentacle.cwd, stdout=out, stderr=out)
    return CommandSession(replace(context, **changes))


@pytest.mark.parametrize(
    "looking",
    [
        *("status", "livez", "doctor", "scripts", "log-level", "list-instances"),
        *("status --format=json", "doctor --format=json", "scripts --format=json", "doctor --bundle=b.tgz"),
    ],
)
def test_who_only_looks_writes_nothing_to_the_log(tentacle: Any, instance: Path, looking: str) -> None:
    """A monitor may look every second."""
    before = {path: path.read_bytes() for path in instance.rglob("*") if path.is_file()}
    tentacle(*looking.split(), *([] if looking == "list-instances" else ["--instance=I"]))
    assert {path: path.read_bytes() for path in instance.rglob("*") if path.is_file()} == before


def test_the_chosen_instance_is_known_by_name_and_its_log_is_open(tentacle: Any, instance: Path) -> None:
    of = session(tentacle)
    assert (of.instance_name, of.instance_argument, of.agent_has_run) == (None, "", False)
    of.command_line = "Tentacle something"
    with of.logging():
        file = of.choose(InstanceOptions("i", None))
    assert file.path == instance / "I.cfg"
    assert (of.instance_name, of.instance_argument) == ("I", " --instance I")
    assert "CommandLine: Tentacle something\n" in tentacle.log(instance)


def test_an_instance_without_a_name_is_advised_without_one(tentacle: Any, instance: Path) -> None:
    of = session(tentacle)
    (tentacle.cwd / "N.cfg").write_bytes((instance / "I.cfg").read_bytes())
    with of.logging():
        of.choose(InstanceOptions(None, "N.cfg"))
    assert of.instance is not None
    assert (of.instance_name, of.instance_argument) == (None, "")


def test_the_log_lies_in_the_home_that_the_environment_says(tentacle: Any, instance: Path, tmp_path: Path) -> None:
    tentacle.environ.update(OCTOPUS_CONTRIBUTE_ENV_SETTINGS="true", OCTOPUS_HOME=str(tmp_path / "other"))
    before = tentacle.log(instance)
    of = session(tentacle)
    with of.logging():
        of.choose(InstanceOptions("I", None))
    assert (tmp_path / "other" / "Logs" / "OctopusTentacle.txt").exists()
    assert tentacle.log(instance) == before


def test_effects_are_those_since_the_instance_was_chosen_first(tentacle: Any, instance: Path) -> None:
    """`init` chooses it once for each of its steps."""
    of = session(tentacle)
    assert of.effect_of_changes(voted=True) is Effect.AFTER_RESTART
    assert of.effect_of_changes(voted=False) is Effect.UNCHANGED
    with of.logging(), only_agent(instance):
        file = of.choose(InstanceOptions("I", None))
        assert of.agent_has_run
        file.update(lambda settings: replace(settings, port=4711))
        of.choose(InstanceOptions("I", None))
        assert of.effect_of_changes(voted=False) is Effect.AFTER_RESTART


def test_paths_are_seen_from_the_current_directory(tentacle: Any, tmp_path: Path) -> None:
    of = session(tentacle)
    assert of.path("a/b") == tentacle.cwd / "a" / "b"
    assert of.path(str(tmp_path)) == tmp_path


def test_a_directory_that_is_gone_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setenv("PWD", str(gone))
    assert current_directory() == gone
    gone.rmdir()
    assert current_directory() == gone
    monkeypatch.delenv("PWD")
    assert current_directory() == Path("/")


def test_the_log_of_who_chose_no_instance(tentacle: Any, instance: Path, tmp_path: Path) -> None:
    """The environment's directory, else the user's own; and never another one than that of the chosen instance."""
    named = session(tentacle, environ={**tentacle.environ, "DefaultLogDirectory": str(tmp_path / "logs")})
    with named.logging():
        assert named.open_fallback_log() == tmp_path / "logs" / "OctopusTentacle.txt"
        named.choose(InstanceOptions("I", None))
    unnamed = session(tentacle)
    with unnamed.logging():
        path = unnamed.open_fallback_log()
        assert path.is_relative_to(tmp_path / "home")
        assert unnamed.open_fallback_log() == path
    chosen = session(tentacle, environ=named.environ)
    with chosen.logging():
        chosen.choose(InstanceOptions("I", None))
        assert chosen.open_fallback_log() == instance / "Logs" / "OctopusTentacle.txt"


def test_an_env_file_beside_the_program_counts_only_where_the_environment_does(tentacle: Any, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TENTACLE_SERVICE_PORT=4711\n")
    program = tmp_path / "bin" / "tentacle"
    assert session(tentacle, program=program).overridden(Settings()).port == 10933
    tentacle.environ["OCTOPUS_CONTRIBUTE_ENV_SETTINGS"] = "true"
    assert session(tentacle, program=program).overridden(Settings()).port == 4711


def test_json_mutes_lines_and_leaves_errors(tentacle: Any) -> None:
    of = session(tentacle)
    of.answer_in_json()
    with of.logging():
        logging.getLogger("tentacle").info("a line")
        logging.getLogger("tentacle").error("a problem")
    assert isinstance(of.process.stdout, io.StringIO)
    assert (of.as_json, of.process.stdout.getvalue()) == (True, "a problem\n")
