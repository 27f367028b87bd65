"""A real agent by HTTPS, with real curl: what a restart, a drain and its end mean to clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tentacle.home_layout import INBOX, WORK
from tests.agent.process import TENTACLE, AgentHome
from tests.patience import PATIENCE
from tests.pki import write_pem
from tests.transport.harness import run

DATA = os.urandom(3_000_000)
STATUS_OF_T = {"method": "IScriptServiceV2.GetStatus", "params": [{"Ticket": {"TaskId": "T"}}]}


class Curl:
    """Calls the agent on `port` with the certificate of its server."""

    def __init__(self, directory: Path, port: int) -> None:
        certificate, key = write_pem("server", directory)
        self.options = ("-sS", "--insecure", "--cert", str(certificate), "--key", str(key))
        self.address = f"https://127.0.0.1:{port}"

    def command(self, path: str, *options: str) -> tuple[str, ...]:
        return ("curl", *self.options, f"{self.address}{path}", *options)

    async def __call__(self, path: str, *options: str) -> str:
        code, said = await run(*self.command(path, *options))
        assert code == 0, said
        return said

    async def call(self, **call: Any) -> Any:
        return json.loads(await self("/rpc", "--json", json.dumps({"jsonrpc": "2.0", "id": 1, **call})))

    async def start(self, body: str, wait: str | None = None) -> Any:
        command = {"ScriptTicket": {"TaskId": "T"}, "ScriptBody": body, "DurationToWaitForScriptToFinish": wait}
        return await self.call(method="IScriptServiceV2.StartScript", params=[command])


async def started(agent: AgentHome) -> Curl:
    return Curl(agent.directory, await (await agent.start()).port())


async def test_a_script_from_start_to_complete_with_a_restart_between(agent: AgentHome) -> None:
    curl = await started(agent)
    go = agent.directory / "go"
    body = f"echo before; until test -e {go}; do sleep 0.02; done; echo after; exit 3"
    assert (await curl.start(body))["result"]["State"] in ("Pending", "Running")
    following = await asyncio.create_subprocess_exec(
        *curl.command("/scripts/T/log", "-N"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert following.stdout is not None
    seen = b""
    async with asyncio.timeout(PATIENCE):
        while b'"before"' not in seen:
            seen += await following.stdout.readline()
    agent.agents[-1].process.kill()
    async with asyncio.timeout(PATIENCE):
        seen += await following.stdout.read()
        await following.wait()
    assert b"event: end" not in seen
    last = [line for line in seen.splitlines() if line.startswith(b"id: ")][-1].removeprefix(b"id: ").decode()
    curl = await started(agent)
    go.touch()
    rest = await curl("/scripts/T/log", "-N", "-H", f"Last-Event-ID: {last}")
    assert '"before"' not in rest
    assert '"after"' in rest
    assert rest.endswith('event: end\ndata: {"ExitCode":3}\n\n')
    assert (await curl.call(method="IScriptServiceV2.CompleteScript", params=[{"Ticket": {"TaskId": "T"}}])) == {
        "jsonrpc": "2.0", "id": 1, "result": None,
    }  # fmt: skip
    assert (await curl.call(**STATUS_OF_T))["result"]["ExitCode"] == -45


async def test_an_upload_goes_on_with_the_next_agent(agent: AgentHome) -> None:
    curl = await started(agent)
    (agent.directory / "data").write_bytes(DATA)
    slowly = await asyncio.create_subprocess_exec(
        *curl.command("/files/Files/f", "-T", str(agent.directory / "data"), "--limit-rate", "500k")
    )
    inbox = agent.home / WORK / INBOX
    async with asyncio.timeout(PATIENCE):
        while not [path for path in inbox.glob("part-*") if path.stat().st_size]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    agent.agents[-1].process.kill()
    await asyncio.wait_for(slowly.wait(), PATIENCE)
    assert not (agent.home / "Files").exists()
    curl = await started(agent)
    head = await curl("/files/Files/f", "-I", "-H", "Upload-Incomplete: ?1")
    (offset,) = [int(line.split(":")[1]) for line in head.splitlines() if line.startswith("Upload-Offset:")]
    assert 0 < offset < len(DATA)
    (agent.directory / "rest").write_bytes(DATA[offset:])
    rest = ("-X", "PATCH", "-H", f"Upload-Offset: {offset}", "--data-binary", f"@{agent.directory / 'rest'}")
    assert json.loads(await curl("/files/Files/f", *rest))["Length"] == len(DATA)
    assert (agent.home / "Files" / "f").read_bytes() == DATA
    assert list(inbox.iterdir()) == []


async def test_a_worker_that_drains_says_so(agent: AgentHome) -> None:
    curl = await started(agent)
    code, said = await run(str(TENTACLE), "drain", f"--config={agent.config}", "--no-wait")
    assert code == 0, said
    error = (await curl.start("true"))["error"]
    assert (error["code"], error["data"]["retry"]) == (-32002, False)
    assert "'tentacle undrain'" in error["message"]
    assert "result" in await curl.call(**STATUS_OF_T)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_call_that_waits_is_answered_when_the_agent_ends(agent: AgentHome, number: signal.Signals) -> None:
    agent.environment["TENTACLE_DRAIN_TIMEOUT"] = "00:00:00.2"
    curl = await started(agent)
    go = agent.directory / "go"
    waiting = asyncio.create_task(curl.start(f"until test -e {go}; do sleep 0.02; done", "01:00:00"))
    async with asyncio.timeout(PATIENCE):
        while (await curl.call(**STATUS_OF_T))["result"]["State"] != "Running":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    agent.agents[-1].send(number)
    async with asyncio.timeout(PATIENCE):
        answer = await waiting
    assert answer["result"]["State"] == "Running"
    await agent.agents[-1].ended()
    go.touch()
    with suppress(ProcessLookupError):
        await agent.gone()
