"""`drain` and `undrain` as the installed program, beside a server and an agent that are processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli.commands.programs import document, ended, init_of, until
from tests.e2e.stage import TENTACLE, Server, Stage, free_port
from tests.patience import PATIENCE


@pytest.fixture
def leaves_nothing_behind() -> None:
    """The stage outlives one test; it looks for what is left itself."""


@pytest.fixture(autouse=True)
def instance(stage: Stage, server: Server) -> Iterator[None]:
    """An instance `w` that is not drained; no agent of it runs afterwards."""
    assert ended(stage, *init_of(stage, server, "w")).returncode == 0
    yield
    pid = document(stage, "status")["Agent"]["ProcessId"]
    if pid:
        os.kill(pid, signal.SIGKILL)
        until(lambda: document(stage, "status")["Agent"]["Running"] is False)
    ended(stage, "undrain")


def test_a_worker_is_drained_and_takes_scripts_again(stage: Stage, server: Server) -> None:
    agent = stage.start_agent("w", "Polling ")
    until(lambda: ended(stage, "status").returncode == 0)
    server.run_script(server.worker("w")["Id"], "while [ ! -e ../stop ]; do sleep 0.05; done")
    until(lambda: len(document(stage, "status")["Scripts"]) == 1)
    ticket = document(stage, "status")["Scripts"][0]["Ticket"]

    late = ended(stage, "drain", "--timeout=1", "--reason=new disk", "--format=json")
    assert (late.returncode, late.stderr) == (3, "")
    told = json.loads(late.stdout)
    assert (told["Drained"], told["Tickets"], told["Drain"]["Reason"]) == (False, [ticket], "new disk")
    draining = ended(stage, "status")
    assert (draining.returncode, draining.stdout.splitlines()[0]) == (3, "● w is running, and draining")
    assert document(stage, "status")["Drain"]["Reason"] == "new disk"
    assert "All is well" not in ended(stage, "doctor").stdout

    waiting = subprocess.Popen(
        [TENTACLE, "drain", f"--server={server.rest}"],
        env={**stage.environment, "OCTOPUS_API_KEY": server.key},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert waiting.stdout is not None
    lines = [waiting.stdout.readline() for _ in range(3)]
    assert lines[0] == "Disabling the worker 'w' on the Octopus Server...\n"
    assert lines[1].startswith("Draining since ")
    assert lines[2] == f"Waiting for 1 script: {ticket}\n"
    assert server.worker("w")["IsDisabled"]
    (stage.directory / "machine" / "w" / "Work" / "stop").touch()
    rest, _ = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0
    assert rest.splitlines()[0] == f"{ticket} has ended"
    assert rest.splitlines()[1].startswith("Drained: no script runs.")

    # Over a restart, and until it is ended.
    assert agent.stop() == 0
    agent = stage.start_agent("w", "Draining since ")
    until(lambda: document(stage, "status")["Agent"]["StateIsCurrent"])
    assert document(stage, "status")["Agent"]["Draining"]
    again = ended(stage, "undrain", f"--server={server.rest}", f"--apiKey={server.key}")
    assert (again.returncode, again.stdout.splitlines()) == (
        0,
        [
            "New scripts are taken again",
            "Enabling the worker 'w' on the Octopus Server...",
        ],
    )
    assert not server.worker("w")["IsDisabled"]
    until(lambda: ended(stage, "status").returncode == 0)
    once_more = ended(stage, "undrain", f"--server={server.rest}", f"--apiKey={server.key}").stdout.splitlines()
    said = ["Nothing to end: it was not draining", "The worker 'w' is enabled on the Octopus Server already"]
    assert once_more == said
    assert agent.stop() == 0


def test_a_machine_whose_agent_is_away_is_drained_for_the_next_one(stage: Stage) -> None:
    stopped = ended(stage, "drain")
    assert stopped.returncode == 0
    assert "the next agent takes no new scripts; no agent is running now" in stopped.stdout
    assert "draining since" in " ".join(ended(stage, "status").stdout.split())
    assert json.loads(ended(stage, "undrain", "--format=json").stdout)["WasDraining"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_where_nothing_can_be_written_there_is_nothing_to_end(stage: Stage) -> None:
    name = json.loads(ended(stage, "list-instances", "--format=json").stdout)[0]["InstanceName"]
    home = stage.directory / "machine" / name
    mount = f"mount --bind {home} {home} && mount -o remount,bind,ro {home}"
    undrained = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount} && exec {TENTACLE} undrain"],
        env=stage.environment,
        cwd=stage.directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (undrained.returncode, undrained.stdout) == (0, "Nothing to end: it was not draining\n"), undrained.stderr


def test_a_server_that_cannot_be_reached_is_not_waited_for_for_long(stage: Stage, server: Server) -> None:
    """The tries are counted by their pauses, which double: ten seconds hold four or five."""
    nobody = f"--server=http://127.0.0.1:{free_port()}"
    for command, options, most in (("drain", [], 10), ("undrain", [], 10), ("drain", ["--timeout=1"], 1)):
        refused = ended(stage, command, nobody, f"--apiKey={server.key}", *options)
        assert refused.returncode == 1
        pauses = [float(one) for one in re.findall(r"Trying again in ([0-9.]+) s", refused.stderr + refused.stdout)]
        assert pauses
        assert sum(pauses) <= most
    assert document(stage, "status")["Drain"] is None


def test_nothing_is_drained_where_the_server_does_not_disable_it(stage: Stage, server: Server) -> None:
    unknown = ended(stage, "drain", f"--server={server.rest}", "--apiKey=API-NONE", "--format=json")
    assert unknown.returncode == 1
    assert "Nothing was drained." in json.loads(unknown.stdout)["Error"]["Hint"]
    assert document(stage, "status")["Drain"] is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--timeout=0"], "--timeout must be a positive number of seconds"),
        (["--timeout=5", "--no-wait"], "does not go with --no-wait"),
        ([f"--reason={'x' * 501}"], "The reason is longer than 500 characters"),
        (["--instance=none"], "Instance none of Tentacle has not been configured"),
    ],
)
def test_what_makes_no_sense_is_refused(stage: Stage, options: list[str], problem: str) -> None:
    refused = ended(stage, "drain", *options)
    assert (refused.returncode, problem in refused.stderr) == (1, True)
