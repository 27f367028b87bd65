"""Registration and polling through a real squid and a real nginx, as processes (docs/spec/rest.md, "Connectivity check"
and "Proxies of the REST client").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.e2e.neighbours import Neighbour, https_front, sni_router, squid
from tests.e2e.stage import Server, Stage, StepFailed, processes_below
from tests.pki import identity, pem

PASSWORD = "pass:w0rd-of-the-proxy"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made
    assert not processes_below(made.directory)


def use_proxy(stage: Stage, proxy: Neighbour, password: str | None = None, host: str = "127.0.0.1") -> None:
    credentials = () if password is None else ("--proxyUsername=worker", f"--proxyPassword={password}")
    stage.run(
        *("polling-proxy", "--instance=w", "--proxyEnable=true", f"--proxyHost={host}"),
        *(f"--proxyPort={proxy.port}", *credentials),
    )


def register(
    stage: Stage,
    server: Server,
    host: str = "127.0.0.1",
    port: int | None = None,
    expect: int = 0,
    thumbprint: str = "",
) -> str:
    return stage.run(
        *("register-worker", "--instance=w", f"--server={server.rest}", "--name=w", "--comms-style=TentacleActive"),
        *("--workerpool=Default Worker Pool", f"--server-comms-address=https://{host}:{port or server.comms_port}"),
        f"--serverThumbprint={thumbprint}",
        expect=expect,
    )


def runs_a_script(server: Server) -> bool:
    state: str = server.finished(server.run_script(server.worker("w")["Id"], "echo through"))["State"]
    return state == "Success"


def test_everything_goes_through_an_open_proxy(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True")
    with squid() as proxy:
        use_proxy(stage, proxy)
        register(stage, server)
        agent = stage.start_agent("w", f"use the octopus configured proxy at 127.0.0.1:{proxy.port}")
        agent.wait_for("as poll://")
        assert runs_a_script(server)
        agent.stop()
        proxy.wait_for(f"CONNECT 127.0.0.1:{server.comms_port}")
        proxy.wait_for(f"GET {server.rest}api")
        proxy.wait_for(f"POST {server.rest}api/Spaces-1/workers")


def test_a_proxy_that_wants_a_password(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True")
    with squid("worker", PASSWORD) as proxy:
        use_proxy(stage, proxy, "wrong-" + PASSWORD)
        said = register(stage, server, expect=1)
        assert "the proxy wants other credentials (HTTP status 407)" in said
        use_proxy(stage, proxy, PASSWORD)
        register(stage, server)
        use_proxy(stage, proxy, "wrong-" + PASSWORD)
        agent = stage.start_agent("w", "Starting 5 polling connections")
        line = agent.wait_for("407 Proxy Authentication Required")
        assert "Trying again in" in line
        assert "correct its user name and password with: Tentacle polling-proxy" in line
        # What the proxy wants is set right while the agent runs.
        use_proxy(stage, proxy, PASSWORD)
        agent.wait_for("as poll://")
        assert runs_a_script(server)
        agent.stop()
    log = (stage.directory / "w" / "Logs" / "OctopusTentacle.txt").read_text()
    for text in ("\n".join(agent.lines), log, said):
        assert PASSWORD not in text
        assert "Traceback" not in text


def test_a_server_that_only_the_proxy_can_find(stage: Stage) -> None:
    server = stage.start_server()
    inside = replace(server, rest=server.rest.replace("127.0.0.1", "octopus.internal"))
    stage.make_instance("w", "--noListen=True")
    with squid("worker", PASSWORD, knows="octopus.internal") as proxy:
        said = register(stage, inside, "octopus.internal", expect=1)
        assert "octopus.internal" in said
        assert "Name or service not known" in said
        use_proxy(stage, proxy, PASSWORD)
        register(stage, inside, "octopus.internal")
        agent = stage.start_agent("w", f"Polling octopus.internal:{server.comms_port} as poll://")
        assert runs_a_script(server)
        agent.stop()
        removed = stage.run("deregister-worker", "--instance=w", f"--server={inside.rest}")
        assert "Worker deregistered successfully" in removed


def test_a_proxy_that_forbids_the_port(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True")
    with squid(refuse=server.comms_port) as proxy:
        use_proxy(stage, proxy)
        said = register(stage, server, expect=1)
        assert f"through the proxy http://127.0.0.1:{proxy.port}: the proxy refused with HTTP status 403 (tried" in said
        assert "(tried 1 time)" in said, "it would say the same again"
        assert "Whoever runs the proxy has to allow CONNECT to that host and port" in said
        stage.run("polling-proxy", "--instance=w", "--proxyEnable=false")
        register(stage, server)
        use_proxy(stage, proxy)
        agent = stage.start_agent("w", "Starting 5 polling connections")
        line = agent.wait_for("refused a connection to")
        assert f"the proxy 127.0.0.1:{proxy.port} refused a connection to 127.0.0.1:{server.comms_port}" in line
        assert "403" in line


def test_a_proxy_that_is_down_and_comes_back(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True", "--pollingConnectionCount=1")
    with squid() as proxy:
        use_proxy(stage, proxy)
        register(stage, server)
        agent = stage.start_agent("w", "as poll://")
    line = agent.wait_for(f"cannot connect to proxy at 127.0.0.1:{proxy.port}: Connection refused")
    assert "Trying again in" in line
    said = register(stage, server, expect=1)
    assert f"through the proxy http://127.0.0.1:{proxy.port}: the proxy cannot be reached (Connection refused)" in said
    assert "Check the proxy's name and port, and set them with: Tentacle polling-proxy" in said
    with squid(port=proxy.port):
        agent.wait_for("as poll://")
        assert runs_a_script(server)
        agent.stop()


def test_addresses_of_the_sixth_version(stage: Stage) -> None:
    server = stage.start_server("--host=::1")
    stage.make_instance("w", "--noListen=True")
    with squid("worker", PASSWORD, host="::1") as proxy:
        use_proxy(stage, proxy, PASSWORD, host="::1")
        register(stage, server, "[::1]")
        agent = stage.start_agent("w", f"use the octopus configured proxy at [::1]:{proxy.port}")
        agent.wait_for(f"Polling [::1]:{server.comms_port} as poll://")
        assert runs_a_script(server)
        agent.stop()
        proxy.wait_for(f"CONNECT [::1]:{server.comms_port}")
        proxy.wait_for(f"POST {server.rest}api/Spaces-1/workers")


def test_the_proxy_of_the_environment_is_for_registration_only(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True")
    with squid() as proxy:
        stage.environment["HTTP_PROXY"] = f"http://127.0.0.1:{proxy.port}"
        register(stage, server)
        proxy.wait_for(f"POST {server.rest}api/Spaces-1/workers")
        stage.start_agent("w", "Starting 5 polling connections").wait_for("as poll://")
        assert not [line for line in proxy.lines() if "CONNECT" in line]
        before = len(proxy.lines())
        passive = [
            *("register-worker", "--instance=w", f"--server={server.rest}", "--name=w", "--force"),
            *("--workerpool=Default Worker Pool", "--publicHostName=127.0.0.1"),
        ]
        rest = server.rest.removeprefix("http://").rstrip("/")
        stage.environment["NO_PROXY"] = f"127.0.0.1:1, .example.org, {rest}"
        stage.run(*passive)
        del stage.environment["NO_PROXY"]
        stage.run("proxy", "--instance=w", "--proxyEnable=false")
        stage.run(*passive)
        assert len(proxy.lines()) == before, "where no proxy is wanted, the environment's is not used either"


def test_a_router_by_name_on_the_https_port_behind_a_proxy(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True")
    with sni_router("localhost", server.comms_port) as router, squid() as proxy:
        register(stage, server, "localhost", router.port)
        agent = stage.start_agent("w", "Starting 5 polling connections")
        agent.wait_for("as poll://")
        router.wait_for(f"name=localhost to=127.0.0.1:{server.comms_port}")
        assert runs_a_script(server)
        # The same way through a proxy, which the agent takes up as soon as it is set.
        use_proxy(stage, proxy)
        agent.wait_for(f"use the octopus configured proxy at 127.0.0.1:{proxy.port}")
        agent.wait_for("as poll://")
        assert runs_a_script(server)
        agent.stop()
        proxy.wait_for(f"CONNECT localhost:{router.port}")


def test_a_server_below_a_prefix_that_it_does_not_know_behind_https(stage: Stage) -> None:
    server = stage.start_server()
    stage.make_instance("w", "--noListen=True")
    certificate, key = pem("front")
    with https_front(server.rest, "octopus", certificate, key) as front, squid("worker", PASSWORD) as proxy:
        use_proxy(stage, proxy, PASSWORD)
        outside = replace(server, rest=f"https://127.0.0.1:{front.port}/octopus")
        said = register(stage, outside, expect=1)
        thumbprint = identity("front").thumbprint
        assert f"The TLS certificate of https://127.0.0.1:{front.port} was refused: self-signed certificate" in said
        assert f"It names 'CN=front' and has the SHA-1 thumbprint {thumbprint}" in said
        options = (f"--server={outside.rest}", f"--serverThumbprint={thumbprint}")
        lost = stage.run("deregister-worker", "--instance=w", *options, f"--server={outside.rest}/nowhere", expect=1)
        assert "does not answer like an Octopus Server" in lost
        register(stage, outside, thumbprint=thumbprint)
        stage.start_agent("w", "as poll://")
        assert runs_a_script(server)
        stage.run("deregister-worker", "--instance=w", *options)
        front.wait_for('"POST /octopus/api/Spaces-1/workers HTTP/1.1" 201')
        assert PASSWORD not in "\n".join(front.lines())


def test_programs_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.e2e.neighbours.shutil.which", lambda *_, **__: None)
    with pytest.raises(StepFailed, match="squid is missing"), squid():
        pass
