"""The command sequences of the original's own installations, container and wizard, as they are written: real processes.

(docs/spec/command-line.md, "Wizard sequence" and "Container variables" and "Settings from the environment".)  Only
paths and ports are those of this test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stage import TENTACLE, Process, Server, Stage, free_port

POOL = "Default Worker Pool"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as ready:
        yield ready


def run_script(server: Server, worker: str) -> None:
    task = server.run_script(server.worker(worker)["Id"], "echo hello")
    assert server.finished(task)["State"] == "Success"


def test_the_container_s_listening_worker(stage: Stage) -> None:
    server, port = stage.start_server(), free_port()
    key, instance = server.key, ("--instance", "Tentacle")
    config = str(stage.directory / "octopus" / "tentacle.config")
    stage.run("create-instance", *instance, "--config", config)
    stage.run("configure", *instance, "--app", str(stage.directory / "Applications"))
    said = stage.run("configure", *instance, "--port", str(port), "--noListen", "False")
    assert said.splitlines()[:2] == [f"Services listen port: {port}", "Tentacle will listen on a TCP port"]
    assert "Removing all trusted Octopus Servers..." in stage.run("configure", *instance, "--reset-trust")
    stage.run("new-certificate", *instance, "--if-blank")
    said = stage.run(
        *("register-worker", "--force", "--workerpool", POOL, *instance, "--server", server.rest, "--space", "Default"),
        *("--policy", "Default Machine Policy", "--comms-style", "TentaclePassive", "--publicHostName", "127.0.0.1"),
        *("--apiKey", key, "--name", "Container"),
    )
    assert "Machine registered successfully" in said
    agent = stage.start("agent", *instance, "--noninteractive")
    agent.wait_for("Agent listening on")
    run_script(server, "Container")
    assert agent.stop() == 0


def test_the_container_s_polling_worker_started_twice(stage: Stage) -> None:
    server, instance = stage.start_server(), ("--instance", "Tentacle")
    stage.run("create-instance", *instance, "--config", str(stage.directory / "octopus" / "tentacle.config"))
    stage.run("configure", *instance, "--app", str(stage.directory / "Applications"))
    stage.run("configure", *instance, "--noListen", "True")
    stage.run("configure", *instance, "--reset-trust")
    stage.run("configure", *instance, "--pollingConnectionCount", "2")
    stage.run("new-certificate", *instance, "--if-blank")
    registration = (
        *("register-worker", "--force", "--workerpool", POOL, *instance, "--server", server.rest, "--space", "Default"),
        *("--policy", "Default Machine Policy", "--comms-style", "TentacleActive"),
        *("--server-comms-port", str(server.comms_port), "--apiKey", server.key, "--name", "Container"),
    )
    stage.run(*registration)
    first = server.worker("Container")
    assert "A certificate already exists" in stage.run("new-certificate", *instance, "--if-blank")
    stage.run(*registration)
    assert server.worker("Container")["Id"] == first["Id"]
    assert server.worker("Container")["Endpoint"]["Uri"] == first["Endpoint"]["Uri"]
    agent = stage.start("agent", *instance, "--noninteractive")
    agent.wait_for("Starting 2 polling connections")
    run_script(server, "Container")
    assert agent.stop() == 0


def test_the_wizard_s_listening_tentacle(stage: Stage) -> None:
    port = free_port()
    config = str(stage.directory / "W" / "tentacle-W.config")
    assert "Saving instance: W" in stage.run("create-instance", "--instance", "W", "--config", config)
    stage.run("new-certificate", "--instance", "W", "--if-blank")
    stage.run(
        *("configure", "--instance", "W", "--app", str(stage.directory / "Apps"), "--port", str(port)),
        *("--noListen", "False", "--reset-trust"),
    )
    stage.run("configure", "--instance", "W", "--trust", "679DDD8527CCE15FE45A5DACD92EA7C0364198D3")
    said = stage.run(
        *("proxy", "--instance", "W", "--proxyEnable=true", "--proxyHost=http://proxyserver", "--proxyPort=8080"),
        *("--proxyUsername=U", "--proxyPassword=W-secret"),
    )
    assert said.splitlines() == [
        "Proxy port set to: 8080",
        "Proxy username set to: U",
        "Proxy password set to: *******",
        "Using custom proxy at: proxyserver",
    ]
    agent = stage.start("run", "--instance", "W", "--noninteractive")
    agent.wait_for("679DDD8527CCE15FE45A5DACD92EA7C0364198D3")
    agent.wait_for(f":{port}")
    assert agent.stop() == 0
    assert b"W-secret" not in Path(config).read_bytes()


def test_the_wizard_s_polling_worker(stage: Stage) -> None:
    server = stage.start_server()
    config = str(stage.directory / "W" / "tentacle-W.config")
    stage.run("create-instance", "--instance", "W", "--config", config)
    stage.run("new-certificate", "--instance", "W", "--if-blank")
    stage.run(
        *("configure", "--instance", "W", "--app", str(stage.directory / "Apps"), "--noListen", "True"),
        "--reset-trust",
    )
    stage.run(
        *("register-worker", "--instance", "W", "--server", server.rest, "--name", "Wizard"),
        *("--comms-style", "TentacleActive", "--server-comms-port", str(server.comms_port), "--apiKey", server.key),
        *("--space", "Default", "--workerpool", POOL),
    )
    agent = stage.start("run", "--instance=W", "--noninteractive")
    agent.wait_for("Agent will not listen on any TCP ports")
    run_script(server, "Wizard")
    assert agent.stop() == 0
    said = stage.run(
        *("deregister-worker", "--instance", "W", "--server", server.rest, "--apiKey", server.key, "--format=json")
    )
    assert json.loads(said)["DeletedMachines"] == ["Wizard"]


def test_the_environment_overrides_the_file_for_commands_and_agent(stage: Stage) -> None:
    stage.make_instance("E", "--port=10933", "--trust=FFFF")
    config = stage.directory / "E" / "tentacle.config"
    before, port = config.read_bytes(), free_port()
    servers = [{"Thumbprint": "A" * 40, "CommunicationStyle": 1, "Address": None, "SubscriptionId": None}]
    stage.environment |= {
        "OCTOPUS_CONTRIBUTE_ENV_SETTINGS": "True",
        "TENTACLE_SERVICE_PORT": str(port),
        "TENTACLE_LISTEN_IP": "127.0.0.1",
        "TENTACLE_TRUSTED_SERVERS": json.dumps(servers),
        "TENTACLE_APPLICATION_DIRECTORY": str(stage.directory / "elsewhere"),
    }
    shown = json.loads(stage.run("show-configuration", "--instance=E"))["Tentacle"]
    assert shown["Services"] == {"ListenIP": "127.0.0.1", "NoListen": False, "PortNumber": port}
    assert shown["Deployment"]["ApplicationDirectory"] == str(stage.directory / "elsewhere")
    agent = stage.start_agent("E", f"Agent will trust Octopus Servers with the thumbprint: {'A' * 40}")
    agent.wait_for(f"Agent listening on: 127.0.0.1:{port}")
    assert agent.stop() == 0
    assert config.read_bytes() == before


def test_a_file_called_env_above_the_program_is_read_and_the_process_environment_wins(stage: Stage) -> None:
    stage.make_instance("E", "--port=10933", "--listenIpAddress=127.0.0.1")
    port = free_port()
    program = stage.directory / "opt" / "bin" / "tentacle"
    program.parent.mkdir(parents=True)
    program.symlink_to(TENTACLE)
    (stage.directory / "opt" / ".env").write_text(
        f"# settings\nTENTACLE_SERVICE_PORT = {port}\nTENTACLE_NO_LISTEN=true\nUNKNOWN=x\n"
    )
    stage.environment |= {"OCTOPUS_CONTRIBUTE_ENV_SETTINGS": "true", "TENTACLE_NO_LISTEN": "false"}
    agent = Process([str(program), "agent", "--instance=E", "--noninteractive"], stage.environment, stage.directory)
    try:
        agent.wait_for(f"Agent listening on: 127.0.0.1:{port}")
    finally:
        assert agent.stop() == 0


def test_a_wrong_value_in_the_environment_is_named(stage: Stage) -> None:
    stage.make_instance("E")
    stage.environment |= {"OCTOPUS_CONTRIBUTE_ENV_SETTINGS": "true", "TENTACLE_SERVICE_PORT": "many"}
    said = stage.run("agent", "--instance=E", "--noninteractive", expect=1)
    assert said.startswith("The environment variable TENTACLE_SERVICE_PORT must be a whole number, not 'many'")
