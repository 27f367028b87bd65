"""Polling by HTTPS with real processes: the embedded server, an agent, and squid or nginx in between
(docs/spec/https.md, "Polling").
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.kills import Pair
from tests.e2e.neighbours import https_front, squid
from tests.e2e.stage import Server, Stage, free_port, processes_below
from tests.pki import made_by_openssl


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made
    assert not processes_below(made.directory)


def register(stage: Stage, server: Server, *more: str, expect: int = 0) -> str:
    return stage.run(
        *("register-worker", "--instance=w", f"--server={server.rest}", "--name=w", "--comms-style=TentacleActive"),
        *("--workerpool=Default Worker Pool", "--https", *more),
        expect=expect,
    )


def works(server: Server, size: int = 3_000_000) -> None:
    worker = server.worker("w")["Id"]
    assert server.finished(server.run_script(worker, "echo by HTTPS"))["State"] == "Success"
    assert server.finished(server.run_script(worker, "exit 9"))["State"] == "Failed"
    data = b"a file" * (size // 6)
    path = f"api/x-tentacle/workers/{worker}/files?path=applications/file.bin"
    server.request("PUT", path, data=data)
    assert server.request("GET", path) == data
    assert server.finished(server.check_health(worker))["State"] == "Success"


def test_registered_and_polled(stage: Stage) -> None:
    server = stage.start_server()
    address = f"https://127.0.0.1:{server.comms_port}"
    assert server.get("api")["Links"]["TentaclePolling"] == f"{address}/agents{{/subscription}}"
    stage.make_instance("w", "--noListen=True")
    assert f"poll it by HTTPS at {address}" in register(stage, server, "--dry-run")
    assert f"Checking connectivity on the server address {address}..." in register(stage, server)
    agent = stage.start_agent("w", f"expecting thumbprint {server.thumbprint}, by HTTPS")
    agent.wait_for("as poll://")
    works(server)
    status = json.loads(stage.run("status", "--instance=w", "--format=json"))
    assert status["Healthy"] is True
    (trusted,) = status["TrustedOctopusServers"]
    assert (trusted["Address"], trusted["Polling"]) == (address, "Https")
    assert trusted["ConnectionsUp"] == trusted["ConnectionsWanted"]
    assert f"{address} (by HTTPS)" in stage.run("status", "--instance=w")
    shown = json.loads(stage.run("show-configuration", "--instance=w", "--format=json"))
    (entry,) = shown["Tentacle"]["Communication"]["TrustedOctopusServers"]
    assert (entry["Address"], entry["HttpsAddress"]) == (None, address)
    assert "fail" not in stage.run("doctor", "--instance=w").lower().replace("failed", "")
    node = address.replace("127.0.0.1", "localhost")
    stage.run("poll-server", "--instance=w", f"--server={server.rest}", f"--server-comms-address={node}", "--https")
    agent.wait_for(f"Polling localhost:{server.comms_port} as poll://")
    assert agent.stop() == 0
    assert "Worker deregistered successfully" in stage.run(
        "deregister-worker", "--instance=w", f"--server={server.rest}"
    )


def test_through_a_proxy(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True")
    with squid() as proxy:
        stage.run(
            *("polling-proxy", "--instance=w", "--proxyEnable=true", "--proxyHost=127.0.0.1"),
            f"--proxyPort={proxy.port}",
        )
        register(stage, server)
        agent = stage.start_agent("w", f"use the octopus configured proxy at 127.0.0.1:{proxy.port}")
        agent.wait_for("as poll://")
        works(server)
        assert agent.stop() == 0
        proxy.wait_for(f"CONNECT 127.0.0.1:{server.comms_port}")


def test_through_a_web_server_that_ends_tls(stage: Stage) -> None:
    port = free_port()
    address = f"https://127.0.0.1:{port}/octopus"
    server = stage.start_server(f"--polling-address={address}/")
    certificate, key = made_by_openssl(
        Path(stage.directory), "-newkey", "rsa:2048", "-addext", "subjectAltName=IP:127.0.0.1"
    )
    ca = stage.directory / "ca.pem"
    ca.write_bytes(certificate)
    stage.make_instance("w", "--noListen=True")
    with https_front(server.rest, "octopus", certificate, key, port) as front:
        outside = replace(server, rest=address)
        register(stage, outside, f"--ca-file={ca}")
        agent = stage.start_agent("w", f"expecting a certificate that {ca} vouches for, by HTTPS")
        agent.wait_for("as poll://")
        # More would be more than this nginx takes.
        works(server, 900_000)
        assert "Bearer" not in "".join(front.lines())
        assert_that_strangers_are_refused(address, ca)
        assert f"{ca} vouches for it" in stage.run("doctor", "--instance=w")
    agent.wait_for("Trying again in")
    with https_front(server.rest, "octopus", certificate, key, port):
        works(server, 60_000)
    assert agent.stop() == 0


def assert_that_strangers_are_refused(address: str, ca: Path) -> None:
    context = ssl.create_default_context(cafile=str(ca))
    request = urllib.request.Request(f"{address}/agents/abcdefghijklmnopqrst/next", b'{"max": 1}', method="POST")
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(request, context=context)
    with refused.value as answer:
        assert json.loads(answer.read())["detail"] == "A worker without a certificate needs a token."


def test_nothing_is_lost_or_doubled_when_either_is_killed(stage: Stage) -> None:
    """Each in the middle of a task; `make kills` goes through all messages."""
    pair = Pair(stage)
    for who, after in (("agent", 6), ("server", 6)):
        assert pair.survives(who, after)
    pair.tap.close()


def test_what_https_does_not_go_with_is_said(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True")
    said = stage.run(
        *("register-worker", "--instance=w", f"--server={server.rest}", "--workerpool=x", "--https"), expect=1
    )
    assert "can only be used with --comms-style=TentacleActive" in said
    assert "not both" in register(stage, server, "--server-web-socket=wss://x/y", expect=1)
    assert "does not say where to poll" in register(stage, server, "--server-comms-port=443", expect=1)
