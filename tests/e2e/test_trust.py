"""Trust, polling and certificates change while an agent runs: real processes, nothing is restarted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.neighbours import sni_router
from tests.e2e.stage import Process, Server, Stage, free_port, processes_below

POOL = "--workerpool=Default Worker Pool"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made
    assert not processes_below(made.directory)


@pytest.fixture
def second(stage: Stage) -> Iterator[Server]:
    """Another server, in a stage of its own."""
    with Stage() as made:
        yield made.start_server()


def register(stage: Stage, server: Server, *options: str) -> None:
    stage.environment["OCTOPUS_API_KEY"] = server.key
    stage.run("register-worker", "--instance=w", f"--server={server.rest}", "--name=w", POOL, *options)


def polling(server: Server) -> tuple[str, ...]:
    return "--comms-style=TentacleActive", f"--server-comms-port={server.comms_port}"


def runs_a_script(server: Server) -> bool:
    state: str = server.finished(server.run_script(server.worker("w")["Id"], "echo through"))["State"]
    return state == "Success"


def thumbprint_at(server: Server) -> str:
    found: str = server.worker("w")["Endpoint"]["Thumbprint"]
    return found


def config_of(stage: Stage) -> Path:
    return stage.directory / "w" / "tentacle.config"


def restarted(stage: Stage, agent: Process, ready: str) -> Process:
    agent.stop()
    return stage.start_agent("w", ready)


def test_a_listening_agent_takes_up_another_server_and_drops_one(stage: Stage, second: Server) -> None:
    first = stage.start_server()
    stage.make_instance("w", f"--port={free_port()}", "--listenIpAddress=127.0.0.1", "--noListen=False")
    register(stage, first, "--publicHostName=127.0.0.1")
    agent = stage.start_agent("w", "Agent listening on")
    assert runs_a_script(first)
    register(stage, second, "--publicHostName=127.0.0.1")
    agent.wait_for(f"will trust Octopus Servers with the thumbprint: {second.thumbprint}")
    assert runs_a_script(second)
    stage.run("configure", "--instance=w", f"--remove-trust={first.thumbprint}", "--port=1")
    agent.wait_for(f"no longer trusts Octopus Servers with the thumbprint: {first.thumbprint}")
    agent.wait_for("Changed, but in force only after a restart of the agent: the port")
    first.run_script(first.worker("w")["Id"], "echo refused")
    agent.wait_for(f"presented {first.thumbprint}, which is not in the list of thumbprints that we trust")
    assert runs_a_script(second)


def test_a_polling_agent_takes_up_another_server_and_survives_a_damaged_file(stage: Stage, second: Server) -> None:
    first = stage.start_server()
    stage.make_instance("w", "--noListen=True", "--pollingConnectionCount=1")
    register(stage, first, *polling(first))
    agent = stage.start_agent("w", "as poll://")
    register(stage, second, *polling(second))
    agent.wait_for(f"Polling 127.0.0.1:{second.comms_port} as poll://")
    assert runs_a_script(first)
    assert runs_a_script(second)
    stage.run("set-polling-connection-count", "--instance=w", "--pollingConnectionCount=2")
    agent.wait_for("Starting 2 polling connections")
    agent.wait_for("all 2 connections are up")
    agent.wait_for("all 2 connections are up")
    good = config_of(stage).read_text()
    config_of(stage).write_text("port: [")
    agent.wait_for("cannot be used; the agent goes on with what it has")
    assert runs_a_script(second)
    config_of(stage).write_text(good)
    agent.wait_for("The configuration can be used again")
    stage.run("configure", "--instance=w", f"--remove-trust={first.thumbprint}")
    agent.wait_for(f"no longer polls Octopus Server at https://127.0.0.1:{first.comms_port}/")
    assert runs_a_script(second)
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 0
    assert "\n".join(agent.lines).count("goes on with what it has") == 1


def test_a_polling_agent_polls_every_node_and_learns_a_new_certificate(stage: Stage) -> None:
    """A cluster of two nodes: the second is a way to the same server under another address."""
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True", "--pollingConnectionCount=1")
    register(stage, server, *polling(server))
    agent = stage.start_agent("w", f"Polling 127.0.0.1:{server.comms_port} as poll://")
    with sni_router("localhost", server.comms_port) as node:
        stage.run(
            *("poll-server", "--instance=w", f"--server={server.rest}"),
            f"--server-comms-address=https://localhost:{node.port}",
        )
        agent.wait_for(f"Polling localhost:{node.port} as poll://")
        assert runs_a_script(server)
        stage.run("update-trust", "--instance=w", f"--oldThumbprint={server.thumbprint}", f"--newThumbprint={'A' * 40}")
        agent.wait_for(f"no longer trusts Octopus Servers with the thumbprint: {server.thumbprint}")
        line = agent.wait_for(f"thumbprint {server.thumbprint}, expected {'A' * 40}")
        assert "something between here and there answers for it" in line
        stage.run("update-trust", "--instance=w", f"--oldThumbprint={'A' * 40}", f"--newThumbprint={server.thumbprint}")
        agent.wait_for("as poll://")
        agent.wait_for("as poll://")
        assert runs_a_script(server)
        kept = f"--keep=http://localhost:{node.port}/"
        stage.run("clear-trusted-servers", "--instance=w", kept)
        agent.wait_for(f"no longer polls Octopus Server at https://127.0.0.1:{server.comms_port}/")
        assert runs_a_script(server)
        agent.stop()


def test_a_rotation_that_was_killed_half_way_is_ended_by_saying_it_again(stage: Stage) -> None:
    """The server knows the new certificate, the agent does not know that it does."""
    server = stage.start_server()
    stage.make_instance("w", f"--port={free_port()}", "--listenIpAddress=127.0.0.1", "--noListen=False")
    register(stage, server, "--publicHostName=127.0.0.1")
    agent = stage.start_agent("w", "Agent listening on")
    new = stage.run("rotate-certificate", "--instance=w").splitlines()[1]
    worker = server.worker("w")
    worker["Endpoint"]["Thumbprint"] = new
    server.request("PUT", worker["Links"]["Self"].lstrip("/"), worker)
    said = stage.run("rotate-certificate", "--instance=w", "--update-server", f"--server={server.rest}")
    assert "It knows 1 machine(s) by the new certificate, which is shown from now on" in said
    agent.wait_for(f"The certificate in use is {new}")
    assert runs_a_script(server)


def test_a_listening_agent_shows_the_new_certificate_once_the_server_knows_it(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", f"--port={free_port()}", "--listenIpAddress=127.0.0.1", "--noListen=False")
    register(stage, server, "--publicHostName=127.0.0.1")
    agent = stage.start_agent("w", "Agent listening on")
    old = stage.run("show-thumbprint", "--instance=w")
    new = stage.run("rotate-certificate", "--instance=w").splitlines()[1]
    assert len({old, new}) == 2
    agent.wait_for(f"The certificate in use is {old}")
    assert runs_a_script(server)
    said = stage.run("rotate-certificate", "--instance=w", "--update-server", f"--server={server.rest}")
    assert "Changing the thumbprint of the worker 'w'" in said
    assert "It knows 1 machine(s) by the new certificate, which is shown from now on" in said
    agent.wait_for(f"The certificate in use is {new}")
    assert thumbprint_at(server) == stage.run("show-thumbprint", "--instance=w") == new
    assert runs_a_script(server)
    again = stage.run("rotate-certificate", "--instance=w", "--update-server", f"--server={server.rest}")
    assert "It knows 1 machine(s) by the new certificate" in again
    stage.run("rotate-certificate", "--instance=w", "--finish")
    assert "previous-certificate" not in config_of(stage).read_text()
    assert runs_a_script(server)


def test_a_polling_agent_is_welcome_with_either_certificate(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True", "--pollingConnectionCount=1")
    register(stage, server, *polling(server))
    old = stage.run("show-thumbprint", "--instance=w")
    new = stage.run("rotate-certificate", "--instance=w").splitlines()[1]
    agent = stage.start_agent("w", "as poll://")
    assert runs_a_script(server)
    # Somebody tells the server on its pages; nobody tells the agent.
    worker = server.worker("w")
    worker["Endpoint"]["Thumbprint"] = new
    server.request("PUT", worker["Links"]["Self"].lstrip("/"), worker)
    agent = restarted(stage, agent, f"does not welcome the certificate {old}; trying {new}")
    agent.wait_for("as poll://")
    assert runs_a_script(server)
    stage.run("rotate-certificate", "--instance=w", "--finish")
    agent.wait_for(f"The certificate in use is {new}")
    agent = restarted(stage, agent, "as poll://")
    assert runs_a_script(server)
    assert stage.run("show-thumbprint", "--instance=w") == new
