"""The example for hosts without systemd, read by a real supervisord: what it starts, ends and starts again."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from tests.e2e.stage import TENTACLE, Server, Stage
from tests.patience import PATIENCE

EXAMPLE = (ROOT / "packaging/examples/supervisord.conf").read_text()
PROGRAM = Path(sys.executable).with_name("supervisord")
CONTROL = Path(sys.executable).with_name("supervisorctl")
WHOLE = """\
[unix_http_server]
file=SOCKET
[supervisord]
logfile=DIRECTORY/supervisord.log
pidfile=DIRECTORY/supervisord.pid
nodaemon=true
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://SOCKET
"""


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as ready:
        yield ready


class Supervisor:
    """A supervisord with the example, in which user and paths are those of this test."""

    def __init__(self, stage: Stage, sockets: str) -> None:
        self._stage = stage
        self._config = stage.directory / "supervisord.conf"
        own = {
            "/usr/bin/tentacle": str(TENTACLE),
            "user=tentacle": f"user={pwd.getpwuid(os.geteuid()).pw_name}",
            "/var/lib/tentacle": str(stage.directory),
            "/var/log": str(stage.directory),
        }
        text = EXAMPLE
        for of_the_host, ours in own.items():
            assert of_the_host in text
            text = text.replace(of_the_host, ours)
        general = WHOLE.replace("SOCKET", f"{sockets}/s").replace("DIRECTORY", str(stage.directory))
        self._config.write_text(general + text)
        command = [str(PROGRAM), "--configuration", str(self._config)]
        self.process = subprocess.Popen(command, env=stage.environment, stdout=subprocess.DEVNULL)

    def control(self, *words: str) -> str:
        command = [str(CONTROL), "--configuration", str(self._config), *words]
        return subprocess.run(command, env=self._stage.environment, capture_output=True, text=True, check=False).stdout

    def pid(self) -> int:
        """The process of the agent; 0 when it does not run."""
        words = self.control("status", "tentacle").replace(",", "").split()
        return int(words[words.index("pid") + 1]) if "RUNNING" in words else 0

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0


def test_scripts_outlive_what_supervisord_does_to_their_agent(stage: Stage) -> None:
    server = registered(stage)
    with tempfile.TemporaryDirectory(prefix="supervisor-") as sockets:
        supervisor = Supervisor(stage, sockets)
        try:
            wait_until(lambda: supervisor.pid() != 0)
            stopped = begin(stage, server, "stopped")
            assert "tentacle: stopped" in supervisor.control("stop", "tentacle")
            assert supervisor.pid() == 0
            (stage.directory / "stopped.go").touch()
            supervisor.control("start", "tentacle")
            assert server.finished(stopped)["State"] == "Success"

            killed, before = begin(stage, server, "killed"), supervisor.pid()
            os.kill(before, signal.SIGKILL)
            (stage.directory / "killed.go").touch()
            wait_until(lambda: supervisor.pid() not in (0, before))
            assert server.finished(killed)["State"] == "Success"
        finally:
            supervisor.close()


def registered(stage: Stage) -> Server:
    """An embedded server that knows the worker `Supervised` of the instance `Tentacle`."""
    server = stage.start_server()
    stage.make_instance("Tentacle", "--noListen=True")
    stage.run(
        *("register-worker", "--instance=Tentacle", f"--server={server.rest}", "--name=Supervised"),
        *("--workerpool=Default Worker Pool", "--comms-style=TentacleActive", f"--apiKey={server.key}"),
        f"--server-comms-port={server.comms_port}",
    )
    return server


def begin(stage: Stage, server: Server, mark: str) -> str:
    """Starts a script that runs when this returns, and until there is `MARK.go`."""
    place = stage.directory / mark
    body = f"touch {place}.begun; until test -e {place}.go; do sleep 0.05; done"
    task = server.run_script(server.worker("Supervised")["Id"], body)
    wait_until(Path(f"{place}.begun").exists)
    return task


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
