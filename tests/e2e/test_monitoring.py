"""What docs/monitoring.md tells to type, run by bash as it stands there.

Four things differ: the port, and where the socket, the home and the trace are, since tests run side by side.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tentacle.settings.policy import parse_policy
from tests.e2e.machine import ROOT
from tests.e2e.pages import Reader, pasting, text_of
from tests.e2e.stage import Stage, free_port


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


def read_on(stage: Stage) -> Reader:
    directory = str(stage.directory)
    replaced = {
        "9113": str(free_port()),
        "/run/tentacle-monitor/": f"{directory}/",
        "/etc/octopus/worker/": f"{directory}/Tentacle/",
        "/root/": f"{directory}/",
    }
    return Reader("docs/monitoring.md", pasting(stage, ROOT), replaced)


def test_what_is_written_there_works_as_it_is_pasted(stage: Stage) -> None:
    reader = read_on(stage)
    stage.make_instance("Tentacle", f"--port={free_port()}", "--listenIpAddress=127.0.0.1", f"--trust={'A' * 40}")
    reader.paste("tentacle configure --instance=Tentacle --monitor=127")
    agent = stage.start_agent("Tentacle", "The agent can be watched at")
    said = reader.paste("curl --fail")
    assert said.startswith("ok\nready\n# HELP")
    assert json.loads(said[said.index("\n{\n") :])["Healthy"] is True
    agent.stop()
    reader.paste("tentacle configure --instance=Tentacle --monitor=unix:")
    agent = stage.start_agent("Tentacle", "The agent can be watched at")
    assert "tentacle_ready 1.0" in reader.paste("curl --unix-socket")
    reader.paste("promtool")
    reader.paste("tentacle configure --instance=Tentacle --log-format=json")
    assert reader.paste("jq -Rr") == ""
    said = reader.paste("tentacle log-level")
    assert said.startswith("The level of the agent's log is debug until ")
    assert len(set(said.splitlines())) == 1
    agent.stop()
    command = reader.next_block("tentacle agent")
    agent = stage.start(*command.split()[1:])
    json.loads(agent.wait_for("Agent listening on"))
    agent.signal(signal.SIGTERM)
    agent.wait()
    trace = stage.directory / "trace.json"
    assert json.loads(trace.read_text())["connections"] == []
    assert reader.paste("jq -r") == ""
    (stage.directory / "Tentacle" / "Logs" / "Audit.jsonl").touch()
    reader.paste("tail")
    # It fails where the machine of the tests lacks something.
    assert "policy" in reader.paste("tentacle doctor", before="trap 'exit 0' ERR\n")
    reader.read_to_the_end()


def test_the_policy_that_is_shown_is_one() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", text_of("docs/monitoring.md"), re.MULTILINE | re.DOTALL)
    policy = parse_policy(text, Path("/etc/octopus/tentacle.policy.yaml"))
    assert set(yaml.safe_load(text)) | {"format"} == {
        *("format", "services", "upload-roots", "download-roots", "peers", "rate-limits", "when-audit-fails"),
    }
    assert policy.refuse_unaudited
