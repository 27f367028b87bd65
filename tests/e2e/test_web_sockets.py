"""Polling over WebSockets with real processes: the embedded server, an agent, and squid or nginx in between
(docs/spec/wire.md, "WebSockets").
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.neighbours import squid, web_socket_front
from tests.e2e.stage import Server, Stage, processes_below
from tests.pki import identity, pem, write_pem


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made
    assert not processes_below(made.directory)


def register(stage: Stage, server: Server, address: str, *more: str) -> str:
    return stage.run(
        *("register-worker", "--instance=w", f"--server={server.rest}", "--name=w", "--comms-style=TentacleActive"),
        *("--workerpool=Default Worker Pool", f"--server-web-socket={address}", *more),
    )


def works(server: Server) -> None:
    worker = server.worker("w")["Id"]
    assert server.finished(server.run_script(worker, "echo through a web socket"))["State"] == "Success"
    data = b"a file" * 100_000
    path = f"api/x-tentacle/workers/{worker}/files?path=applications/file.bin"
    server.request("PUT", path, data=data)
    assert server.request("GET", path) == data
    assert server.finished(server.check_health(worker))["State"] == "Success"


def test_registered_and_polled_over_a_web_socket(stage: Stage) -> None:
    server = stage.start_server()
    address = f"wss://127.0.0.1:{server.comms_port}/OctopusComms"
    stage.make_instance("w", "--noListen=True")
    assert f"Would check that the server web socket opens: GET {address}" in register(
        stage, server, address, "--dry-run"
    )
    said = register(stage, server, address.replace("wss", "https"))
    assert f"Checking connectivity on the server web socket address {address}..." in said
    agent = stage.start_agent("w", f"Agent will poll Octopus Server at {address} for subscription")
    agent.wait_for("as poll://")
    works(server)
    status = json.loads(stage.run("status", "--instance=w", "--format=json"))
    assert status["Healthy"] is True
    (trusted,) = status["TrustedOctopusServers"]
    assert (trusted["Address"], trusted["Thumbprint"]) == (address, server.thumbprint)
    assert (trusted["ConnectionsUp"], trusted["Generation"]) == (trusted["ConnectionsWanted"], "modern")
    shown = json.loads(stage.run("show-configuration", "--instance=w", "--format=json"))
    assert address in json.dumps(shown)
    assert "fail" not in stage.run("doctor", "--instance=w").lower().replace("failed", "")
    node = address.replace("127.0.0.1", "localhost")
    stage.run("poll-server", "--instance=w", f"--server={server.rest}", f"--server-web-socket={node}")
    agent.wait_for(f"Polling localhost:{server.comms_port} as poll://")
    agent.stop()
    assert "Worker deregistered successfully" in stage.run(
        "deregister-worker", "--instance=w", f"--server={server.rest}"
    )


def test_through_a_web_server_that_ends_tls(stage: Stage) -> None:
    """Its certificate is the one that is trusted; to the server it shows that of the worker."""
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True")
    certificate, key = write_pem("agent", stage.directory)
    pfx = stage.directory / "agent.pfx"
    subprocess.run(
        ["openssl", "pkcs12", "-export", "-passout", "pass:", "-in", certificate, "-inkey", key, "-out", pfx],
        check=True,
    )
    stage.run("import-certificate", "--instance=w", f"--from-file={pfx}")
    backend = f"https://127.0.0.1:{server.comms_port}/OctopusComms"
    with web_socket_front(backend, pem("front"), pem("agent")) as front:
        register(stage, server, f"wss://127.0.0.1:{front.port}/below?here")
        shown = json.loads(stage.run("show-configuration", "--instance=w", "--format=json"))
        assert identity("front").thumbprint in json.dumps(shown)
        assert server.thumbprint not in json.dumps(shown)
        agent = stage.start_agent("w", f"expecting thumbprint {identity('front').thumbprint}")
        agent.wait_for("as poll://")
        works(server)
    # The web server has gone, and comes back.
    agent.wait_for("Trying again in")
    with web_socket_front(backend, pem("front"), pem("agent"), front.port):
        works(server)
    agent.stop()


def test_through_a_proxy(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True")
    with squid() as proxy:
        stage.run(
            *("polling-proxy", "--instance=w", "--proxyEnable=true", "--proxyHost=127.0.0.1"),
            f"--proxyPort={proxy.port}",
        )
        register(stage, server, f"wss://127.0.0.1:{server.comms_port}/OctopusComms")
        agent = stage.start_agent("w", f"use the octopus configured proxy at 127.0.0.1:{proxy.port}")
        agent.wait_for("as poll://")
        works(server)
        agent.stop()
        proxy.wait_for(f"CONNECT 127.0.0.1:{server.comms_port}")
