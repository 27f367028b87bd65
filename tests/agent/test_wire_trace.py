"""A real agent whose conversation is traced, on every wire."""

from __future__ import annotations

import json
import signal
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest

from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tests.agent.process import WEB_SOCKET, AgentHome, Running, Server
from tests.agent.test_https import Curl
from tests.patience import PATIENCE
from tests.pki import made_by_openssl
from tests.polled_server import polled_server

SAYS = "hello from s3cr3t"


async def traced(running: Running, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The first connection, and its turns, after the agent has ended."""
    running.send(signal.SIGTERM)
    await running.ended()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert f"echo {SAYS}" not in text
    assert f"echo {SAYS}".encode().hex() not in text
    assert SAYS in text
    assert "Bearer" not in text
    assert b"Bearer".hex() not in text
    document: dict[str, Any] = json.loads(text)
    first = document["connections"][0]
    assert first["tls"] == "TLSv1.3"
    return first, [turn for one in document["connections"] for turn in one["turns"] if one["number"] == first["number"]]


def parts(turns: list[dict[str, Any]], kind: str) -> list[tuple[str, Any]]:
    return [(turn["from"], part[kind]) for turn in turns for part in turn["parts"] if kind in part]


@pytest.mark.parametrize("how", ["listening", "polling", "web socket"])
async def test_halibut_is_traced(agent: AgentHome, server: Server, tmp_path: Path, how: str) -> None:
    path = tmp_path / "trace.json"
    if how == "polling":
        agent.poll(server.listener.port)
    elif how == "web socket":
        agent.poll(server.listener.port, scheme="wss", path=WEB_SOCKET)
    running = await agent.start("--noninteractive", f"--trace-wire={path}")
    if how == "listening":
        server.port = await running.port()
    answer = await server.script(f"echo {SAYS}", wait=PATIENCE)
    assert isinstance(answer, ScriptStatusResponseV2)
    await server.listening.aclose()
    connection, turns = await traced(running, path)
    assert connection["dialled_by"] == ("server" if how == "listening" else "agent")
    assert connection["wire"] == "halibut"
    spoken = [(side, control) for side, control in parts(turns, "control")] + [
        (side, message["Message"]["$type"].split(",")[0].rsplit(".", 1)[-1])
        for side, message in parts(turns, "message")
        if message["Message"]
    ]
    assert ("server", "RequestMessage") in spoken
    assert ("agent", "ResponseMessage") in spoken
    assert ("agent", "MX-SERVER 1.0\r\n\r\n") in spoken or how != "listening"


async def test_https_is_traced(agent: AgentHome, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    running = await agent.start("--noninteractive", f"--trace-wire={path}")
    curl = Curl(agent.directory, await running.port())
    log = f"{curl.address}/scripts/T/log"
    command = {"ScriptTicket": {"TaskId": "T"}, "ScriptBody": f"echo {SAYS}"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "IScriptServiceV2.StartScript", "params": [command]}
    # One connection for both.
    assert "event: end" in await curl("/rpc", "--json", json.dumps(call), "--next", *curl.options, log)
    connection, turns = await traced(running, path)
    assert (connection["wire"], connection["dialled_by"]) == ("https", "server")
    (start, follow) = parts(turns, "request")
    assert start[1]["body"] == {**call, "params": [{**command, "ScriptBody": "********"}]}
    assert (follow[0], follow[1]["path"]) == ("server", "/scripts/T/log")
    (started, following) = parts(turns, "answer")
    assert started[1]["body"]["result"]["Ticket"] == {"TaskId": "T"}
    assert following[1]["headers"]["Content-Type"] == "text/event-stream"
    events = "".join(text for _, text in parts(turns, "events"))
    assert f'"Text":"{SAYS}"' in events
    assert events.endswith('event: end\ndata: {"ExitCode":0}\n\n')


@pytest.mark.parametrize("behind_a_proxy", [False, True])
async def test_polling_by_https_is_traced(agent: AgentHome, tmp_path: Path, behind_a_proxy: bool) -> None:
    path = tmp_path / "trace.json"
    async with polled_server(tmp_path) as polled:
        more = {}
        if behind_a_proxy:
            certificate, key = made_by_openssl(
                tmp_path, "-newkey", "rsa:2048", "-addext", "subjectAltName=IP:127.0.0.1"
            )
            (tmp_path / "ca.pem").write_bytes(certificate)
            (tmp_path / "key.pem").write_bytes(key)
            await polled.stop()
            polled.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            polled.context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
            await polled.start()
            more = {"ca_file": str(tmp_path / "ca.pem")}
        agent.poll(polled.port, https=True, **more)
        agent.set(polling_connection_count=1)
        running = await agent.start("--noninteractive", f"--trace-wire={path}")
        started = await polled.start_script(f"echo {SAYS}", wait="00:00:30")
        assert started["ExitCode"] == 0
        connection, turns = await traced(running, path)
    assert (connection["wire"], connection["dialled_by"]) == ("https", "agent")
    first, *_ = asked = parts(turns, "request")
    assert (first[0], first[1]["method"], first[1]["body"]) == ("agent", "POST", {"max": 1, "holding": []})
    assert first[1]["headers"].get("Authorization") == ("********" if behind_a_proxy else None)
    (call,) = [one["body"]["requests"] for _, one in parts(turns, "answer") if one["body"]]
    assert call[0]["params"][0]["ScriptBody"] == "********"
    (reply,) = [one["body"] for _, one in asked if "/replies/" in one["path"]]
    assert SAYS in [entry["Text"] for entry in reply["result"]["Logs"]]
