"""`agent --ephemeral`: a worker that is there while its agent runs, and not a moment longer; nothing is stored."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stage import Process, Server, Stage, StepFailed, free_port, processes_below
from tests.patience import PATIENCE

POOL = "--workerpool=Default Worker Pool"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made
    assert not processes_below(made.directory)


@pytest.fixture
def server(stage: Stage) -> Server:
    """A server whose key is in a file and not in the environment."""
    made = stage.start_server()
    del stage.environment["OCTOPUS_API_KEY"]
    key_of(stage).write_text(made.key + "\n")
    return made


def key_of(stage: Stage) -> Path:
    return stage.directory / "key"


def instance(stage: Stage, *settings: str) -> None:
    """Without a certificate: an image from which many containers are started."""
    stage.run("create-instance", "--instance=w", f"--config={stage.directory / 'w' / 'tentacle.config'}")
    stage.run("configure", "--instance=w", f"--app={stage.directory / 'apps'}", *settings)


def start(stage: Stage, server: Server, *options: str) -> Process:
    common = ("agent", "--instance=w", "--noninteractive", "--ephemeral", f"--server={server.rest}", POOL)
    return stage.start(*common, f"--apiKeyFile={key_of(stage)}", *options)


def polling(server: Server) -> tuple[str, ...]:
    return "--comms-style=TentacleActive", f"--server-comms-port={server.comms_port}"


def workers(server: Server) -> list[str]:
    return [worker["Name"] for worker in server.get("api/Spaces-1/workers/all")]


def runs_a_script(server: Server, name: str) -> bool:
    state: str = server.finished(server.run_script(server.worker(name)["Id"], "echo through"))["State"]
    return state == "Success"


def begun_script(stage: Stage, server: Server, body: str) -> tuple[str, str]:
    """Runs a script on the only worker; its task and the number of its process, once it has begun."""
    begun = stage.directory / "begun"
    [worker] = server.get("api/Spaces-1/workers/all")
    task = server.run_script(worker["Id"], f"echo $$ >{begun}.new; mv {begun}.new {begun}; {body}")
    deadline = time.monotonic() + PATIENCE
    while not begun.exists():
        assert time.monotonic() < deadline, "the script did not begin"
        time.sleep(0.02)
    return task, begun.read_text().strip()


def healthy(stage: Stage, which: str) -> Any:
    """What `status` says once the agent has written that its connections are up."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return json.loads(stage.run("status", which, "--format=json"))
        except StepFailed:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_polling_worker_comes_and_goes(stage: Stage, server: Server) -> None:
    instance(stage, "--noListen=True")
    config = stage.directory / "w" / "tentacle.config"
    before = config.read_bytes()
    agent = start(stage, server, *polling(server))
    agent.wait_for("A certificate has been generated for this run alone")
    agent.wait_for("as poll://")
    [name] = workers(server)
    assert name.rpartition("-")[2] in "\n".join(agent.lines).lower()
    assert runs_a_script(server, name)
    agent.signal(signal.SIGTERM)
    agent.wait_for(f"Worker '{name}' deregistered")
    assert agent.wait() == 0
    assert workers(server) == []
    assert config.read_bytes() == before
    files = [path.read_bytes() for path in (stage.directory / "w").rglob("*") if path.is_file()]
    assert not [content for content in files if server.key.encode() in content or b"PRIVATE KEY" in content]


def test_one_that_polls_listens_nowhere_and_its_status_is_its_own(stage: Stage, server: Server) -> None:
    instance(stage, f"--port={free_port()}", "--noListen=False")
    agent = start(stage, server, *polling(server), "--name=mine")
    agent.wait_for("Agent will not listen on any TCP ports")
    agent.wait_for("as poll://")
    assert runs_a_script(server, "mine")
    state = healthy(stage, "--instance=w")
    assert (state["Modes"], state["Healthy"], state["Notes"]) == (["polling", "ephemeral"], True, [])
    [trusted] = state["TrustedOctopusServers"]
    assert trusted["Thumbprint"] == server.thumbprint
    assert state["Certificate"]["Thumbprint"] in "\n".join(agent.lines)
    _, own, port = json.loads(stage.run("doctor", "--instance=w", "--format=json"))["Sections"]
    [certificate] = [one for one in own["Findings"] if one["Check"] == "certificate"]
    assert (certificate["Level"], port["Title"]) == ("ok", f"Polling port 127.0.0.1:{server.comms_port}")
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 0
    state = json.loads(stage.run("status", "--instance=w", "--format=json", expect=3))
    assert (state["Modes"], state["TrustedOctopusServers"], state["Certificate"]) == (["listening"], [], None)


@pytest.mark.parametrize("data", ["data", "no/data"])
def test_a_machine_without_an_instance_needs_none(stage: Stage, server: Server, data: str) -> None:
    """Where the user has no directory for data, which is below a file here, a temporary one does."""
    (stage.directory / "no").touch()
    (stage.directory / "tmp").mkdir()
    stage.environment.update(XDG_DATA_HOME=str(stage.directory / data), TMPDIR=str(stage.directory / "tmp"))
    command = ("agent", "--ephemeral", f"--server={server.rest}", POOL, *polling(server), "--name=mine")
    agent = stage.start(*command, f"--apiKeyFile={key_of(stage)}")  # its standard input is at its end
    agent.wait_for("This machine has no instance; this run works in ")
    agent.wait_for("as poll://")
    assert runs_a_script(server, "mine")
    [config] = [*stage.directory.glob("data/Octopus/Ephemeral/*.config"), *stage.directory.glob("tmp/*/*.config")]
    assert config.is_relative_to(stage.directory / ("data" if data == "data" else "tmp"))
    assert (config.parent.stat().st_mode & 0o777, config.stat().st_mode & 0o777) == (0o700, 0o600)
    assert healthy(stage, f"--config={config}")["Modes"] == ["polling", "ephemeral"]
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 0
    assert workers(server) == []
    assert stage.run("list-instances") == "No instances installed"


def test_no_script_is_left_to_nobody(stage: Stage, server: Server) -> None:
    instance(stage, "--noListen=True")
    stage.environment.update(TENTACLE_DRAIN_TIMEOUT="0.2", TENTACLE_DRAIN_ACTION="leave")
    agent = start(stage, server, *polling(server), "--name=mine")
    agent.wait_for("TENTACLE_DRAIN_ACTION=leave is ignored")
    agent.wait_for("as poll://")
    _, pid = begun_script(stage, server, "sleep 1000")
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 0
    assert not Path(f"/proc/{pid}").exists()
    assert "left to the next agent" not in "\n".join(agent.lines)


@pytest.mark.parametrize("way", ["polling", "listening"])
@pytest.mark.parametrize(
    ("wait", "body"), [("0", "sleep 1000"), ("1000", "while [ ! -e ~/let-go ]; do sleep 0.1; done")]
)
def test_the_server_gets_the_result_before_the_agent_leaves(
    stage: Stage, server: Server, way: str, wait: str, body: str
) -> None:
    """Also that of a script that ends by itself while the agent waits, and all lines of a long log."""
    instance(stage, f"--port={free_port()}", "--listenIpAddress=127.0.0.1", "--noListen=False")
    stage.environment.update(TENTACLE_DRAIN_TIMEOUT=wait, TENTACLE_DRAIN_FETCH_TIMEOUT=str(PATIENCE))
    stage.environment["TENTACLE_CANCEL_GRACE"] = str(PATIENCE)
    agent = start(stage, server, *(polling(server) if way == "polling" else ("--publicHostName=127.0.0.1",)))
    agent.wait_for("as poll://" if way == "polling" else "Agent listening on")
    say = "for ((i = 1; i <= 20000; i++)); do echo $i; done"
    task, _ = begun_script(stage, server, f"trap '{say}; exit 7' TERM; {body}; {say}; exit 7")
    agent.signal(signal.SIGTERM)
    agent.wait_for("new ones are refused")
    (stage.directory / "let-go").touch()
    agent.wait_for("deregistered")
    # The agent is about to end: what the server does not have by now it will never get.
    lines = list(server.follow(task))
    assert agent.wait() == 0
    assert len([line for line in lines if line.endswith("20000")]) == 1
    assert server.finished(task)["State"] == "Failed"
    assert [line for line in lines if "exit code" in line.lower()]
    assert not [line for line in agent.lines if "No server has fetched" in line]


def test_a_server_that_does_not_fetch_a_result_is_not_waited_for_for_ever(stage: Stage, server: Server) -> None:
    instance(stage, "--noListen=True")
    stage.environment.update(TENTACLE_DRAIN_TIMEOUT="0", TENTACLE_DRAIN_FETCH_TIMEOUT="0.5")
    agent = start(stage, server, *polling(server), "--name=mine")
    agent.wait_for("as poll://")
    begun_script(stage, server, "sleep 1000")
    server.process.signal(signal.SIGSTOP)
    agent.signal(signal.SIGTERM)
    try:
        agent.wait_for("No server has fetched the results of ")
    finally:
        server.process.signal(signal.SIGCONT)
    agent.wait_for("Worker 'mine' deregistered")
    assert agent.wait() == 0


def test_two_at_once_are_two_workers_and_a_listening_one_keeps_its_trust(stage: Stage, server: Server) -> None:
    instance(stage, f"--port={free_port()}", "--listenIpAddress=127.0.0.1", "--noListen=False")
    agent = start(stage, server, "--publicHostName=127.0.0.1", "--name=mine")
    agent.wait_for("Agent listening on")
    assert runs_a_script(server, "mine")
    # Another one of the same instance would take the first one off the server at its end.
    with pytest.raises(StepFailed, match="another agent is already running"):
        start(stage, server, "--publicHostName=127.0.0.1", "--name=mine").wait_for("Registering")
    # A change of the configuration does not lose what was never written into it.
    stage.run("configure", "--instance=w", f"--trust={'A' * 40}")
    agent.wait_for(f"Agent will trust Octopus Servers with the thumbprint: {'A' * 40}")
    assert runs_a_script(server, "mine")
    assert workers(server) == ["mine"]
    agent.signal(signal.SIGINT)
    assert agent.wait() == 0
    assert workers(server) == []


def test_a_worker_that_cannot_be_taken_off_is_told(stage: Stage, server: Server) -> None:
    instance(stage, "--noListen=True")
    agent = start(stage, server, *polling(server))
    agent.wait_for("as poll://")
    # The key was replaced by one that the server does not know: files are read again.
    key_of(stage).write_text("API-REVOKED0123456789")
    agent.signal(signal.SIGTERM)
    agent.wait_for("is left on the Octopus Server")
    assert agent.wait() == 1
    assert len(workers(server)) == 1


def test_a_killed_run_is_cleared_up_by_the_next(stage: Stage, server: Server) -> None:
    instance(stage, "--noListen=True")
    killed = start(stage, server, *polling(server), "--name=mine")
    killed.wait_for("as poll://")
    [before] = [server.worker("mine")["Id"]]
    killed.signal(signal.SIGKILL)
    killed.wait()
    assert workers(server) == ["mine"], "nobody could take it off"
    note = stage.directory / "w" / "ephemeral-worker.json"
    assert note.stat().st_mode & 0o077 == 0
    assert server.key.encode() not in note.read_bytes()
    agent = start(stage, server, *polling(server), "--name=mine")
    agent.wait_for("The worker 'mine' of a run that was killed has been taken off the server")
    agent.wait_for("as poll://")
    assert server.worker("mine")["Id"] != before
    assert runs_a_script(server, "mine")
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 0
    assert (workers(server), note.read_bytes()) == ([], b"")


def test_an_agent_that_cannot_start_leaves_no_worker(stage: Stage, server: Server) -> None:
    instance(stage, "--noListen=True")
    agent = start(stage, server, *polling(server), f"--trace-wire={stage.directory / 'nowhere' / 'trace'}")
    agent.wait_for("deregistered")
    assert agent.wait() == 1
    assert workers(server) == []


@pytest.mark.parametrize("wrong", ["pool", "polling port", "port", "name"])
def test_what_is_wrong_is_found_before_anything_is_made(stage: Stage, server: Server, wrong: str) -> None:
    listening = wrong == "port"
    instance(stage, f"--port={server.comms_port}", "--listenIpAddress=127.0.0.1", f"--noListen={not listening}")
    options = ("--comms-style=TentaclePassive",) if listening else polling(server)
    problem = "cannot listen on"
    if wrong == "pool":
        options, problem = (*options, "--workerpool=Nowhere"), "Could not find the worker pool"
    elif wrong == "polling port":
        closed = free_port()
        options, problem = (*options, f"--server-comms-port={closed}"), f"127.0.0.1:{closed}"
    elif wrong == "name":
        options, problem = (*options, "--policy=None"), "Could not find the machine policy"
    agent = start(stage, server, *options)
    assert agent.wait() == 1
    said = " ".join(agent.lines)
    assert problem in said
    assert "certificate has been generated" not in said
    assert workers(server) == []
    if wrong == "port":
        assert "Registering" not in said


@pytest.mark.parametrize("data", ["data", "no/data"])
def test_a_machine_without_an_instance_stays_as_it_is_where_registering_fails(
    stage: Stage, server: Server, data: str
) -> None:
    (stage.directory / "no").touch()
    (stage.directory / "tmp").mkdir()
    stage.environment.update(XDG_DATA_HOME=str(stage.directory / data), TMPDIR=str(stage.directory / "tmp"))
    command = ("agent", "--ephemeral", f"--server={server.rest}", "--workerpool=Nowhere", *polling(server))
    said = stage.run(*command, f"--apiKeyFile={key_of(stage)}", expect=1)
    assert "Could not find the worker pool with name, slug or Id Nowhere on the Octopus Server." in said
    assert list(stage.directory.glob("tmp/*")) == list(stage.directory.glob("data/Octopus/*")) == []


def test_registration_options_need_ephemeral(stage: Stage) -> None:
    instance(stage, "--noListen=True")
    said = stage.run("agent", "--instance=w", "--noninteractive", "--server=http://octopus", expect=1)
    assert "The options of registration go with --ephemeral only." in said
