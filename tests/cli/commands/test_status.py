"""`status` as the installed program, beside a server and agents that are processes."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cli.commands.programs import document, ended, init_of, until
from tests.e2e.stage import Server, Stage


@pytest.fixture
def leaves_nothing_behind() -> None:
    """The stage outlives one test; it looks for what is left itself."""


def test_the_status_of_an_instance_that_is_one_of_several_or_damaged(stage: Stage) -> None:
    stage.run("create-instance", "--instance=bare", "--config=bare/bare.config")
    stage.run("create-instance", "--instance=broken", "--config=broken/broken.config")
    several = ended(stage, "status")
    assert (several.returncode, several.stdout) == (1, "")
    assert "There is more than one instance" in several.stderr
    bare = ended(stage, "status", "--instance=bare")
    assert bare.returncode == 3
    assert "run tentacle new-certificate --instance=bare" in " ".join(bare.stdout.split())
    (stage.directory / "broken" / "broken.config").write_text("port: many\n")
    broken = ended(stage, "status", "--instance=broken", "--format=json")
    assert broken.returncode == 1
    assert "broken/broken.config" in broken.stderr
    told = json.loads(broken.stdout)["Error"]
    assert (told["Message"], told["Hint"], told["ExitCode"]) == (*broken.stderr.splitlines(), 1)
    (stage.directory / "broken" / "broken.config").unlink()
    gone = ended(stage, "doctor", "--instance=broken")
    assert (gone.returncode, gone.stderr) == (1, "")
    assert "FAIL configuration The configuration file for instance broken" in " ".join(gone.stdout.split())


def test_the_status_of_an_agent_that_runs_a_script_stops_and_is_killed(stage: Stage, server: Server) -> None:
    assert ended(stage, *init_of(stage, server, "shown")).returncode == 0
    stopped = ended(stage, "status", "--instance=shown")
    assert (stopped.returncode, stopped.stderr) == (3, "")
    assert "shown is not running" in stopped.stdout.splitlines()[0]
    agent = stage.start_agent("shown", "Polling ")
    until(lambda: ended(stage, "status", "--instance=shown").returncode == 0)
    task = server.run_script(server.worker("shown")["Id"], "touch started; while [ ! -e stop ]; do sleep 0.1; done")
    until(lambda: [one["State"] for one in document(stage, "status", "--instance=shown")["Scripts"]] == ["Running"])
    found = document(stage, "status", "--instance=shown")
    assert found["Healthy"]
    assert found["Agent"]["ProcessId"] == agent.pid
    assert [(one["ConnectionsUp"], one["ConnectionsWanted"]) for one in found["TrustedOctopusServers"]] == [(5, 5)]
    assert [one["State"] for one in found["Scripts"]] == ["Running"]
    assert found["Workspaces"]["Bytes"] > 0
    agent.signal(signal.SIGKILL)
    agent.wait()
    killed = document(stage, "status", "--instance=shown")
    assert (killed["Healthy"], killed["Agent"]["Running"], killed["Agent"]["StateIsCurrent"]) == (False, False, False)
    assert any("ended without a word" in note for note in killed["Notes"])
    assert any("1 script left to the next agent" in note for note in killed["Notes"])
    work = stage.directory / "machine" / "shown" / "Work"
    [workspace] = [path for path in work.iterdir() if (path / "started").exists()]
    (workspace / "stop").touch()
    del task
