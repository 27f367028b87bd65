"""A real agent with a policy of its host, and its audit record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import stat
from pathlib import Path
from typing import Any

from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v2 import CancelScriptCommandV2, ScriptStatusResponseV2
from tentacle.settings.logs import LogSettings
from tentacle.wire.messages import ServerError
from tests.agent.process import TENTACLE, AgentHome, Server
from tests.patience import PATIENCE
from tests.pki import identity, pem
from tests.transport.harness import run

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REFUSAL = "Refused by the policy of this host: "


def policy_of(agent: AgentHome) -> Path:
    """Beside the configuration: the instance has no name."""
    return agent.home / "tentacle.policy.yaml"


def records(agent: AgentHome) -> list[dict[str, Any]]:
    path = agent.home / "Logs" / "Audit.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return [json.loads(line) for line in path.read_text().splitlines()]


async def doctor(agent: AgentHome) -> dict[str, Any]:
    """What the doctor finds of the policy."""
    process = await asyncio.create_subprocess_exec(
        *(str(TENTACLE), "doctor", f"--config={agent.config}", "--format=json"), stdout=asyncio.subprocess.PIPE
    )
    document = json.loads((await process.communicate())[0])
    findings = [one for section in document["Sections"] for one in section["Findings"] if one["Check"] == "policy"]
    assert len(findings) == 1
    return dict(findings[0])


async def test_who_asked_for_what_is_on_record(agent: AgentHome, server: Server) -> None:
    running = await agent.start()
    server.port = await running.port()
    answer = await server.script("exit 4", wait=PATIENCE)
    assert isinstance(answer, ScriptStatusResponseV2)
    asked, *rest = records(agent)
    assert (asked["Event"], asked["Thumbprint"], asked["Wire"]) == ("asked", identity("server").thumbprint, "halibut")
    assert asked["Address"].startswith("127.0.0.1:")
    assert (asked["Method"], asked["Ticket"]) == ("StartScript", "T")
    assert asked["ScriptSha256"] == hashlib.sha256(b"exit 4").hexdigest()
    assert {(one["Event"], one.get("ExitCode"), one.get("Result")) for one in rest} == {
        ("ended", 4, None),
        ("answered", None, "ok"),
    }
    await running.stop()


async def test_the_policy_is_in_force_as_soon_as_it_is_written(agent: AgentHome, server: Server) -> None:
    running = await agent.start()
    server.port = await running.port()
    assert (await doctor(agent))["Level"] == "ok"
    assert isinstance(await server.script("true", ticket="A"), ScriptStatusResponseV2)
    policy_of(agent).write_text("services: [ICapabilitiesServiceV2]\n")
    answer = await server.script("touch done", ticket="B")
    assert isinstance(answer, ServerError)
    assert answer.message == f"{REFUSAL}IScriptServiceV2.StartScript is not allowed."
    # The beginning by which the server's client knows that it need not try again.
    assert (answer.details or "").startswith("System.Reflection.TargetInvocationException")
    (refused,) = [one for one in records(agent) if one.get("Result") == "refused"]
    assert (refused["Ticket"], refused["Error"]) == ("B", answer.message)
    found = await doctor(agent)
    assert found["Level"] in ("ok", "warn")
    assert "allowed: ICapabilitiesServiceV2.GetCapabilities" in found["Found"]
    policy_of(agent).unlink()
    assert isinstance(await server.script("true", ticket="B"), ScriptStatusResponseV2)
    running.process.terminate()
    await running.ended()


async def test_a_broken_policy_is_told_at_the_start_and_allows_nothing(agent: AgentHome, server: Server) -> None:
    policy_of(agent).write_text("servces: [ICapabilitiesServiceV2]\n")
    running = await agent.start()
    server.port = await running.port()
    answer = await server.script("true")
    assert isinstance(answer, ServerError)
    assert answer.message.startswith(f"{REFUSAL}its policy file cannot be used")
    found = await doctor(agent)
    assert found["Level"] == "fail"
    assert "servces is not known" in found["Found"]
    running.process.terminate()
    _, errors = await running.ended()
    assert [line for line in errors if "so nothing new is allowed" in line and "servces is not known" in line]


async def test_by_https_too_and_a_trace_goes_through(agent: AgentHome, tmp_path: Path) -> None:
    """One call by curl that is refused, one that is not: what its caller is told, and what is on record."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    certificate_pem, key_pem = pem("server")
    key.write_bytes(key_pem)
    certificate.write_bytes(certificate_pem)
    agent.set(logs=LogSettings(format="json"))
    running = await agent.start()
    port = json.loads(await running.until("Agent listening on: "))["Message"].rpartition(":")[2]
    assert (await run(str(TENTACLE), "log-level", f"--config={agent.config}", "debug"))[0] == 0

    async def rpc(script: str, ticket: str) -> dict[str, Any]:
        command = {
            "ScriptTicket": {"TaskId": ticket},
            "ScriptBody": script,
            "DurationToWaitForScriptToFinish": "00:01:00",
        }
        call = {"jsonrpc": "2.0", "id": 1, "method": "IScriptServiceV2.StartScript", "params": [command]}
        process = await asyncio.create_subprocess_exec(
            *("curl", "-sk", "--cert", str(certificate), "--key", str(key), "--header", f"traceparent: {PARENT}"),
            *("--json", json.dumps(call), f"https://127.0.0.1:{port}/rpc"),
            stdout=asyncio.subprocess.PIPE,
        )
        return dict(json.loads((await process.communicate())[0]))

    answer = await rpc("echo trace $TRACEPARENT", "A")
    assert f"trace {PARENT}" in [entry["Text"] for entry in answer["result"]["Logs"]]
    policy_of(agent).write_text("services: [ICapabilitiesServiceV2]\n")
    answer = await rpc("touch done", "B")
    assert answer["error"]["code"] == -32003
    assert answer["error"]["message"].startswith(REFUSAL)
    first, *_, last = records(agent)
    assert (first["Wire"], first["Thumbprint"], first["TraceParent"], first["Ticket"]) == (
        *("https", identity("server").thumbprint),
        *(PARENT, "A"),
    )
    assert (last["Wire"], last["Result"], last["Ticket"]) == ("https", "refused", "B")
    running.process.terminate()
    _, problems = await running.ended()
    written = (agent.home / "Logs" / "OctopusTentacle.txt").read_text().splitlines()
    lines = [json.loads(line) for line in (*written, *problems)]
    who = {"Server": identity("server").thumbprint, "TraceId": PARENT[3:35], "SpanId": PARENT[36:52]}
    ours = [line for line in lines if line.items() >= who.items() and line.get("Ticket") == "A"]
    assert {"Script A begins", "Script A has ended with exit code 0"} <= {line["Message"] for line in ours}
    assert any(re.fullmatch(r"\S+V2\.StartScript of 127\.\S+ by https: ok", line["Message"]) for line in ours)
    (refused,) = [line for line in lines if line["Message"].endswith("by https: refused")]
    assert (refused["Ticket"], refused["Level"]) == ("B", "Debug")


async def test_on_a_full_disk_new_scripts_are_refused_where_the_policy_says_so(
    agent: AgentHome, server: Server
) -> None:
    (agent.home / "Logs").mkdir()
    mount = 'mount -t tmpfs -o size=24k tmpfs "$0" && exec "$@"'
    running = await agent.start(wrapper=("unshare", "--mount", "/bin/sh", "-c", mount, str(agent.home / "Logs")))
    server.port = await running.port()
    for number in range(100):
        command = CancelScriptCommandV2(ScriptTicket(f"X{number}"), 0)
        await server.answer("IScriptServiceV2", "CancelScript", command)
    assert isinstance(await server.script("true", wait=PATIENCE, ticket="A"), ScriptStatusResponseV2)
    policy_of(agent).write_text("when-audit-fails: refuse-scripts\n")
    answer = await server.script("touch done", ticket="B")
    assert isinstance(answer, ServerError)
    assert answer.message == f"{REFUSAL}the audit record cannot be written: No space left on device."
    assert not (agent.home / "Work" / "B").exists()
    # What was begun is told of to its end.
    assert (await server.status("A")).exit_code == 0
    inside = Path(f"/proc/{running.process.pid}/root{agent.home}/Logs/Audit.jsonl").read_text()
    assert [json.loads(line)["Event"] for line in inside.splitlines()]
    assert inside.endswith("\n")
    running.process.terminate()
    await running.ended()
