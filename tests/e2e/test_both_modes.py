"""Agent and embedded server as processes, driven by the real command line, in both modes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.stage import Process, Server, Stage, free_port, processes_below
from tests.patience import PATIENCE

POOL = "Default Worker Pool"


@dataclass
class Worker:
    """A registered worker with its running agent."""

    stage: Stage
    server: Server
    agent: Process
    instance: str

    @property
    def id(self) -> str:
        identity: str = self.server.worker(self.instance)["Id"]
        return identity

    def restart(self) -> None:
        self.agent = self.stage.start_agent(self.instance, "Agent ")

    def script(self, body: str) -> tuple[str, list[str]]:
        """The state in which a script's task ends, and its own lines."""
        task = self.server.run_script(self.id, body)
        state: str = self.server.finished(task)["State"]
        return state, self.lines(task)

    def lines(self, task: str) -> list[str]:
        """The messages of a task's log."""
        log = self.server.request("GET", f"api/tasks/{task}/raw").decode()
        return [line.split(" | ", 1)[1].strip() for line in log.splitlines() if " | " in line]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with Stage() as made:
        yield made
    assert not made.directory.exists()
    assert not processes_below(made.directory)


@pytest.fixture(params=["listening", "polling"])
def worker(request: pytest.FixtureRequest, stage: Stage) -> Worker:
    server = stage.start_server()
    name: str = request.param
    common = [
        "register-worker",
        f"--instance={name}",
        f"--server={server.rest}",
        f"--name={name}",
        f"--workerpool={POOL}",
    ]
    if name == "listening":
        stage.make_instance(name, f"--port={free_port()}", "--noListen=False", "--listenIpAddress=127.0.0.1")
        stage.run(*common, "--comms-style=TentaclePassive", "--publicHostName=127.0.0.1")
    else:
        stage.make_instance(name, "--noListen=True")
        stage.run(*common, "--comms-style=TentacleActive", f"--server-comms-port={server.comms_port}")
    return Worker(stage, server, stage.start_agent(name, "Agent "), name)


def test_scripts_files_health_and_the_way_out(worker: Worker) -> None:
    assert worker.script("echo one; echo two >&2; exit 0")[0] == "Success"
    state, lines = worker.script("echo before; exit 7")
    assert state == "Failed"
    assert "before" in lines
    data = os.urandom(300_000)
    path = f"api/x-tentacle/workers/{worker.id}/files?path=some/where/data.bin"
    worker.server.request("PUT", path, data=data)
    assert worker.server.request("GET", path) == data
    assert worker.server.finished(worker.server.check_health(worker.id))["State"] == "Success"
    assert worker.server.worker(worker.instance)["HealthStatus"] == "Healthy"
    output = worker.stage.run("deregister-worker", f"--instance={worker.instance}", f"--server={worker.server.rest}")
    assert "Worker deregistered successfully" in output
    assert worker.server.get("api/Spaces-1/workers/all") == []


def test_a_script_knows_its_agent(worker: Worker) -> None:
    state, lines = worker.script(
        'echo "$TentacleHome"; echo "$TentacleJournal"; test -x "$TentacleExecutablePath" && echo it is there'
    )
    home = worker.stage.directory / worker.instance
    assert state == "Success"
    assert {str(home), str(home / "DeploymentJournal.xml"), "it is there"} <= set(lines)


def test_a_cancelled_script_is_gone_with_everything_in_it(worker: Worker) -> None:
    marker = worker.stage.directory / "child.pid"
    task = worker.server.run_script(
        worker.id, f"(setsid sleep 300 & echo $! > {marker}.new; mv {marker}.new {marker}; wait) & echo going; wait"
    )
    wait_until(marker.exists)
    worker.server.request("POST", f"api/tasks/{task}/cancel", {})
    assert worker.server.finished(task)["State"] == "Canceled"
    wait_until(lambda: not Path(f"/proc/{marker.read_text().strip()}").exists())


def test_a_script_outlives_an_agent_that_is_killed(worker: Worker) -> None:
    """The server retries while the agent is away; the next agent has the whole log and the real exit code."""
    go = worker.stage.directory / "go"
    task = worker.server.run_script(worker.id, f"echo first; until test -e {go}; do sleep 0.1; done; echo last; exit 3")
    wait_until(lambda: "first" in worker.lines(task))
    worker.agent.signal(signal.SIGKILL)
    worker.agent.wait()
    go.touch()
    worker.restart()
    assert worker.server.finished(task)["State"] == "Failed"
    own = [line for line in worker.lines(task) if line in ("first", "last")]
    assert own == ["first", "last"]
    assert any("exited with code 3" in line for line in worker.lines(task))


def test_a_stopped_agent_leaves_its_scripts_to_the_next_one(worker: Worker) -> None:
    worker.stage.environment["TENTACLE_DRAIN_TIMEOUT"] = "00:00:00.2"
    worker.agent.signal(signal.SIGTERM)
    assert worker.agent.wait() == 0
    worker.restart()
    go = worker.stage.directory / "go"
    task = worker.server.run_script(worker.id, f"echo first; until test -e {go}; do sleep 0.1; done; echo last")
    wait_until(lambda: "first" in worker.lines(task))
    worker.agent.signal(signal.SIGTERM)
    assert worker.agent.wait() == 0
    assert any("left to the next agent" in line for line in worker.agent.lines)
    go.touch()
    worker.restart()
    assert worker.server.finished(task)["State"] == "Success"
    assert "last" in worker.lines(task)


@pytest.mark.parametrize("worker", ["listening"], indirect=True)
def test_an_idle_agent_ends_at_once(worker: Worker) -> None:
    worker.stage.environment["TENTACLE_DRAIN_TIMEOUT"] = "1h"  # which takes effect from the first restart on
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        worker.agent.signal(number)
        assert worker.agent.wait() == 0
        worker.restart()


def wait_until(condition: object) -> None:
    """Waits for something that another process does."""
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
