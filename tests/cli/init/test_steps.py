"""The steps of `init`: each runs what is not done yet, shows it as it could be typed, and leaves the rest alone."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Final

import pytest

from tentacle.settings.store import SettingsFile

KEY: Final = "API-TESTKEY0123456789"
SERVER: Final = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"
ALONE: Final = ("init", "--yes", "--instance=N", "--no-register", "--no-service", "--app=./apps")


def shown(lines: list[str]) -> list[list[str]]:
    """The commands of the steps, as a shell reads them."""
    return [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]


@pytest.fixture
def config(tentacle: Any, tmp_path: Path) -> Path:
    """The configuration of an instance that was set up to listen."""
    tentacle.ok(*ALONE, "--mode=listening", "--port=4711")
    return tmp_path / "machine" / "N" / "tentacle.config"


def test_from_nothing_the_lines_of_each_command_stand_below_it(tentacle: Any, tmp_path: Path) -> None:
    ended = tentacle.ok(*ALONE, "--mode=listening", f"--config={tmp_path}/a b/N.cfg", "--port=4711")
    names = [command[:2] for command in shown(ended.lines)]
    assert names == [["tentacle", name] for name in ("create-instance", "new-certificate", "configure")]
    assert f"--config={tmp_path}/a b/N.cfg" in shown(ended.lines)[0]
    assert "  Services listen port: 4711" in ended.lines
    assert ended.lines[-2] == "Registration: left out"
    assert ended.lines[-1].startswith("Done.  Start it: tentacle agent --instance=N")
    settings = SettingsFile(tmp_path / "a b" / "N.cfg").load()
    assert (settings.port, settings.no_listen, settings.application_directory) == (4711, False, tentacle.cwd / "apps")
    assert settings.certificate is not None


def test_again_nothing_is_run(tentacle: Any, config: Path) -> None:
    before = config.read_bytes()
    ended = tentacle.ok(*ALONE)
    assert shown(ended.lines) == []
    assert ended.lines[0] == f"Instance: 'N' is there already ({config})"
    assert ended.lines[1].startswith("Certificate: there already, thumbprint ")
    assert ended.lines[2] == "Configuration: listening, as wanted; nothing needed to change"
    assert set(json.loads(tentacle.ok(*ALONE, "--format=json").out)["Changed"]) == set()
    assert config.read_bytes() == before


@pytest.mark.parametrize(
    ("given", "run"),
    [
        (["--port=4712"], ["--port=4712"]),
        (["--mode=polling"], ["--noListen=True"]),
        (["--mode=polling", "--port=4712"], ["--noListen=True"]),
        (["--app=./other"], ["--app={cwd}/other"]),
        (["--trust=" + SERVER.lower()], ["--trust=" + SERVER]),
        (["--trust=" + SERVER, "--port=4712"], ["--port=4712", "--trust=" + SERVER]),
    ],
)
def test_only_what_differs_is_configured(tentacle: Any, config: Path, given: list[str], run: list[str]) -> None:
    wanted = [one.format(cwd=tentacle.cwd) for one in run]
    assert shown(tentacle.ok(*ALONE, *given).lines) == [["tentacle", "configure", "--instance=N", *wanted]]
    assert shown(tentacle.ok(*ALONE, *given).lines) == []


def test_a_directory_for_applications_that_is_gone_is_made_again(tentacle: Any, config: Path) -> None:
    (tentacle.cwd / "apps").rmdir()
    [command] = shown(tentacle.ok(*ALONE).lines)
    assert command[2:] == ["--instance=N", f"--app={tentacle.cwd}/apps"]
    assert (tentacle.cwd / "apps").is_dir()


def test_servers_that_are_trusted_are_named_once(tentacle: Any, config: Path) -> None:
    tentacle.ok("configure", "--instance=N", f"--trust={SERVER}")
    tentacle.ok("server-comms", "--instance=N", "--style=TentacleActive", "--host=h")
    assert f"Registration: servers are trusted already ({SERVER})" in tentacle.ok(*ALONE).lines


async def test_a_registration_is_shown_without_its_key(tentacle: Any, config: Path, octopus: Any) -> None:
    asking = ("init", "--yes", "--instance=N", "--no-service", f"--server={octopus.url}", f"--apiKey={KEY}")
    more = ("--name=w", "--workerpool=Linux", "--policy=Slow", "--publicHostName=h", "--force")
    ended = await tentacle.aside(*asking, *more)
    assert (ended.code, ended.err) == (0, "")
    [command] = shown(ended.lines)
    assert command[:2] == ["tentacle", "register-worker"]
    assert set(command[2:]) == {
        *("--instance=N", f"--server={octopus.url}", "--name=w", "--comms-style=TentaclePassive", "--policy=Slow"),
        *("--publicHostName=h", "--workerpool=Linux", "--force", "--idempotent"),
    }
    assert [(one["Name"], one["Endpoint"]["Uri"]) for one in octopus.workers] == [("w", "https://h:4711/")]
    assert KEY not in ended.out + tentacle.log(config.parent)
    # The log names each step as if it had been typed, and so without the key.
    assert "CommandLine: Tentacle register-worker --instance=N " in tentacle.log(config.parent)


async def test_what_the_server_refuses_changes_nothing(tentacle: Any, config: Path, octopus: Any) -> None:
    before = SettingsFile(config).load()
    asking = ("init", "--yes", "--instance=N", "--no-service", f"--server={octopus.url}", "--apiKey=API-WRONG")
    ended = await tentacle.aside(*asking, "--name=w", "--port=4711")
    assert ended.code == 1
    assert shown(ended.lines) == []
    assert ended.err.startswith("You must be logged in to request this resource.")
    assert SettingsFile(config).load() == before


def test_without_systemd_a_service_is_refused_before_the_first_step(
    tentacle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = tentacle("init", "--yes", "--instance=N", "--no-register", "--service", "--app=./apps")
    assert (ended.code, ended.out) == (1, "")
    assert "systemd" in ended.err
    assert not (tmp_path / "machine").exists()


def test_what_steps_will_miss_here_is_told_to_a_script_too(
    tentacle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tentacle.environ["PATH"] = str(tmp_path)
    lines = tentacle.ok(*ALONE).lines
    assert any(line.startswith("  note: Steps miss 'openssl'") for line in lines[:-1]), lines
    assert lines[-1].startswith("Done.  ")
