"""`init` as the installed program, beside a server."""

from __future__ import annotations

import contextlib
import signal

import pytest

from tentacle.settings.store import SettingsFile
from tests.cli.commands.programs import document, ended, init_of
from tests.e2e.stage import Server, Stage, StepFailed, free_port


@pytest.fixture
def leaves_nothing_behind() -> None:
    """The stage outlives one test; it looks for what is left itself."""


def test_from_nothing_to_a_worker_and_again(stage: Stage, server: Server) -> None:
    first = ended(stage, *init_of(stage, server, "first"))
    assert (first.returncode, first.stderr) == (0, "")
    assert [line.split()[2] for line in first.stdout.splitlines() if line.startswith("$ ")] == [
        "create-instance",
        "new-certificate",
        "configure",
        "register-worker",
    ]
    assert server.key not in first.stdout
    config = stage.directory / "machine" / "first" / "tentacle.config"
    before, worker = SettingsFile(config).load(), server.worker("first")
    again = document(stage, *init_of(stage, server, "first"))
    assert again["Changed"] == []
    assert SettingsFile(config).load() == before
    assert server.worker("first") == worker
    without_key = ended(stage, "init", "--yes", "--instance=first", OCTOPUS_API_KEY="")
    assert without_key.returncode == 0
    assert "Registration: servers are trusted already" in without_key.stdout
    log = (config.parent / "Logs" / "OctopusTentacle.txt").read_text()
    assert server.key not in log


def test_a_setup_that_was_interrupted_goes_on(stage: Stage, server: Server) -> None:
    arguments = init_of(stage, server, "resumed")
    in_the_way = stage.directory / "resumed"
    in_the_way.symlink_to("nowhere")
    failed = ended(stage, *arguments)
    assert failed.returncode == 1
    assert "Stopped here.  What is done stays done: run it again to go on." in failed.stdout
    in_the_way.unlink()
    done = document(stage, *arguments)
    assert done["Changed"] == ["Configuration", "Registration"]


def test_away_from_a_terminal_every_missing_option_is_named(stage: Stage) -> None:
    asked = ended(stage, "init", "--instance=x")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "these options are missing: --mode, --app, --server, or --no-register" in asked.stderr
    keyless = ended(stage, "init", "--yes", "--server=http://127.0.0.1:1", OCTOPUS_API_KEY="")
    assert keyless.returncode == 1
    assert "--apiKeyFile" in keyless.stderr
    assert not (stage.directory / "machine" / "x").exists()


def test_what_init_is_told_can_be_taken_at_its_word(stage: Stage) -> None:
    for arguments, complaint in (
        (["--service", "--no-service"], "--service and --no-service exclude each other."),
        (["--trust=ABC"], "'ABC' is not the thumbprint"),
        (["--mode=sideways"], "'sideways' is neither listening nor polling."),
        (["--port=70000"], "70000"),
    ):
        refused = ended(stage, "init", "--yes", "--no-register", "--instance=never", *arguments)
        assert (refused.returncode, refused.stdout) == (1, ""), refused
        assert complaint in refused.stderr
    assert not (stage.directory / "machine" / "never").exists()
    trusting = ["init", "--yes", "--no-register", "--instance=trusting", "--trust=" + "ab" * 20, "--app=./apps"]
    trusting.append(f"--port={free_port()}")
    assert document(stage, *trusting)["Changed"] == ["Instance", "Certificate", "Configuration"]
    assert document(stage, *trusting)["Changed"] == []
    config = stage.directory / "machine" / "trusting" / "tentacle.config"
    assert [one.thumbprint for one in SettingsFile(config).load().servers] == ["AB" * 20]
    other = ended(stage, "init", "--yes", "--no-register", "--instance=other", f"--config={config}")
    assert (other.returncode, other.stdout) == (1, "")
    assert other.stderr.startswith(f"'{config}' is the configuration of the instance 'trusting'.")


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("--workerpool=Nowhere", "Could not find the worker pool"),
        ("--policy=None", "Could not find the machine policy"),
        ("--server-comms-port={closed}", "127.0.0.1:{closed}"),
        ("--space=None", "None"),
    ],
)
def test_what_the_server_would_refuse_is_found_before_anything_is_made(
    stage: Stage, server: Server, wrong: str, problem: str
) -> None:
    closed = free_port()
    arguments = [*init_of(stage, server, "early"), wrong.format(closed=closed)]
    refused = ended(stage, *arguments)
    assert refused.returncode == 1
    assert problem.format(closed=closed) in refused.stdout + refused.stderr
    assert "$ tentacle" not in refused.stdout
    assert "early" not in stage.run("list-instances")
    assert not (stage.directory / "machine" / "early").exists()
    assert not (stage.directory / "early").exists()


def test_a_setup_that_is_killed_at_every_step_goes_on(stage: Stage, server: Server) -> None:
    arguments = init_of(stage, server, "killed")
    for step in ("create-instance", "new-certificate", "configure", "register-worker"):
        begun = stage.start(*arguments)
        # On a slow machine the one before may have come further than it was meant to, or this one to its end.
        with contextlib.suppress(StepFailed):
            begun.wait_for(f"$ tentacle {step}")
        begun.signal(signal.SIGKILL)
        assert begun.wait() in (0, -signal.SIGKILL)
    dead = stage.start(*(f"{'--server=http://127.0.0.1:1' if '--server=' in one else one}" for one in arguments))
    dead.wait_for("cannot be reached")
    dead.signal(signal.SIGINT)
    dead.wait_for("Nothing was changed.")
    assert dead.wait() == 130, dead.lines
    assert ended(stage, *arguments).returncode == 0
    assert document(stage, *arguments)["Changed"] == []
    assert server.worker("killed")["Name"] == "killed"
    left = [one.name for one in (stage.directory / "machine").rglob("*.tmp")]
    assert not left, "a killed writer's rubbish goes with the next one"
