"""A real agent whose conversation is traced, listening and polling."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tests.agent.process import AgentHome, Server
from tests.patience import PATIENCE


@pytest.mark.parametrize("polling", [False, True])
async def test_a_conversation_is_traced(agent: AgentHome, server: Server, tmp_path: Path, polling: bool) -> None:
    path = tmp_path / "trace.json"
    if polling:
        agent.poll(server.listener.port)
    running = await agent.start("--noninteractive", f"--trace-wire={path}")
    if not polling:
        server.port = await running.port()
    answer = await server.script("echo hello from s3cr3t", wait=PATIENCE)
    assert isinstance(answer, ScriptStatusResponseV2)
    await server.listening.aclose()
    running.send(signal.SIGTERM)
    await running.ended()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    document: dict[str, Any] = json.loads(path.read_text())
    connection = document["connections"][0]
    assert connection["dialled_by"] == ("agent" if polling else "server")
    turns = [turn for one in document["connections"] for turn in one["turns"] if one["number"] == connection["number"]]
    spoken = [
        (turn["from"], part.get("control") or part["message"]["Message"]["$type"].split(",")[0].rsplit(".", 1)[-1])
        for turn in turns
        for part in turn["parts"]
        if "control" in part or part["message"]["Message"]
    ]
    assert ("server", "RequestMessage") in spoken
    assert ("agent", "ResponseMessage") in spoken
    assert ("agent", "MX-SERVER 1.0\r\n\r\n") in spoken or polling
    text = path.read_text()
    assert "echo hello" not in text
    assert b"echo hello".hex() not in text
    assert "hello from s3cr3t" in text
