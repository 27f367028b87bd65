"""Servers and scripts are told a version of the original's numbering; the agent's own is shown beside it."""

from __future__ import annotations

import json
import re
import subprocess

from tentacle import __version__
from tentacle.settings.reported_version import COMPATIBLE_WITH
from tests.e2e.stage import Stage, free_port
from tests.patience import PATIENCE


def test_servers_are_told_the_version_of_the_setting_and_people_see_both() -> None:
    with Stage() as stage:
        server, socket = stage.start_server(), stage.directory / "monitor.sock"
        stage.make_instance("W", f"--port={free_port()}", "--listenIpAddress=127.0.0.1", f"--monitor=unix:{socket}")
        shown = stage.run("configure", "--instance=W", "--reported-version=default", "--reported-version=9.3.1-rc.2")
        assert "Servers and scripts are told version: 9.3.1-rc.2\n" in shown
        stage.run(
            *("register-worker", "--instance=W", f"--server={server.rest}", "--name=W", f"--apiKey={server.key}"),
            *("--workerpool=Default Worker Pool", "--comms-style=TentacleActive"),
            f"--server-comms-port={server.comms_port}",
        )
        agent = stage.start_agent("W", "Starting ")
        assert server.finished(server.check_health(server.worker("W")["Id"]))["State"] == "Success"
        worker = server.worker("W")
        assert worker["Endpoint"]["TentacleVersionDetails"]["Version"] == "9.3.1-rc.2"
        assert server.get(worker["Links"]["Connection"].lstrip("/"))["CurrentTentacleVersion"] == "9.3.1-rc.2"

        page = stage.run("status", "--instance=W")
        assert re.search(f"^ +Version +{re.escape(__version__)}; servers are told 9.3.1-rc.2$", page, re.M)
        document = json.loads(stage.run("status", "--instance=W", "--format=json"))
        assert (document["Version"], document["ReportedVersion"]) == (__version__, "9.3.1-rc.2")
        curl = ["curl", "-sS", "--unix-socket", str(socket), "http://localhost/metrics"]
        metrics = subprocess.run(curl, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
        assert f'reported_version="9.3.1-rc.2",version="{__version__}"' in metrics

        stage.run("configure", "--instance=W", "--reported-version=default")
        document = json.loads(stage.run("status", "--instance=W", "--format=json"))
        assert document["ReportedVersion"] == "9.3.1-rc.2", "what the agent that runs says"
        agent.stop()
        document = json.loads(stage.run("status", "--instance=W", "--format=json", expect=3))
        assert document["ReportedVersion"] == COMPATIBLE_WITH
        assert stage.run("version") == __version__
