"""However much a command or an agent has to ask of a proxy: a login that it refuses is shown to it once.

Directories lock an account after three to five wrong passwords, and with it whatever else uses that account.
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.stage import Stage, processes_below


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made
    assert not processes_below(made.directory)


class RefusingProxy(socketserver.ThreadingTCPServer):
    """Refuses every login; `shown` are the first lines of the requests with one."""

    daemon_threads = True

    def __init__(self) -> None:
        self.shown: list[str] = []
        super().__init__(("127.0.0.1", 0), _Refusal)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Refusal(socketserver.StreamRequestHandler):
    server: RefusingProxy

    def handle(self) -> None:
        first, lines = self.rfile.readline(), []
        while (line := self.rfile.readline()).strip():
            lines.append(line.lower())
        if any(line.startswith(b"proxy-authorization:") for line in lines):
            self.server.shown.append(first.decode().strip())
        self.wfile.write(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def refusing_proxy() -> Iterator[RefusingProxy]:
    with RefusingProxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


def use(stage: Stage, proxy: RefusingProxy) -> None:
    stage.run(
        *("polling-proxy", "--instance=w", "--proxyEnable=true", "--proxyHost=127.0.0.1"),
        *(f"--proxyPort={proxy.port}", "--proxyUsername=worker", "--proxyPassword=wrong-password"),
    )


@pytest.mark.parametrize("server", ["https://octopus.invalid", "http://octopus.invalid"])
def test_doctor_shows_it_once_for_all_servers_together(stage: Stage, server: str) -> None:
    stage.make_instance("w", "--noListen=True")
    for number in range(3):
        stage.run("configure", "--instance=w", f"--trust={str(number) * 40}")
        stage.run(
            *("server-comms", "--instance=w", f"--thumbprint={str(number) * 40}", "--style=TentacleActive"),
            *(f"--host=octopus{number}.invalid", "--port=10943"),
        )
    with refusing_proxy() as proxy:
        use(stage, proxy)
        said = stage.run("doctor", "--instance=w", f"--server={server}", expect=1)
    assert len(proxy.shown) == 1, proxy.shown
    assert said.count("wants other credentials") == 4


@pytest.mark.parametrize("server", ["https://octopus.invalid", "http://octopus.invalid"])
@pytest.mark.parametrize(
    "command",
    [
        ("register-worker", "--comms-style=TentacleActive", "--idempotent"),
        ("init", "--yes", "--mode=polling"),
    ],
)
def test_registration_shows_it_once(stage: Stage, server: str, command: tuple[str, ...]) -> None:
    stage.make_instance("w", "--noListen=True")
    with refusing_proxy() as proxy:
        use(stage, proxy)
        said = stage.run(
            *(*command, "--instance=w", f"--server={server}", "--name=w"),
            *("--workerpool=Default Worker Pool", "--apiKey=API-1234567890ABCDEF"),
            expect=1,
        )
        assert "407" in said
        assert len(proxy.shown) == 1, proxy.shown
