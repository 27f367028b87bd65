"""What becomes of scripts that outlast the drain: left to the next agent, or cancelled if the operator wants that."""

from __future__ import annotations

import asyncio
import signal

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState, ScriptIsolationLevel, ScriptTicket
from tentacle.contracts.script_v2 import ScriptStatusResponseV2, StartScriptCommandV2
from tests.agent.process import AgentHome, Server

SCATTERED = "setsid sleep 600 & echo going; sleep 600; echo never"


async def start_alone(server: Server, ticket: str, body: str) -> None:
    """A script that keeps all others away."""
    command = StartScriptCommandV2(ScriptTicket(ticket), body, isolation=ScriptIsolationLevel.FULL_ISOLATION)
    assert isinstance(await server.answer("IScriptServiceV2", "StartScript", command), ScriptStatusResponseV2)


async def test_scripts_that_outlast_the_drain_can_be_cancelled(agent: AgentHome, server: Server) -> None:
    """The one that runs, with all its processes, and the one that waits for its lock."""
    agent.environment |= {"TENTACLE_DRAIN_TIMEOUT": "00:00:00.1", "TENTACLE_DRAIN_ACTION": "Cancel"}
    running = await agent.start()
    server.port = await running.port()
    await start_alone(server, "T", SCATTERED)
    await server.said("going")
    await start_alone(server, "waits", "touch ../ran")
    running.send(signal.SIGTERM)
    await running.until("Cancelling 2 script(s) that still run: T, waits")
    assert await running.ended() == (0, [])
    assert not any("left to the next agent" in line for line in running.said)
    await agent.gone()
    del agent.environment["TENTACLE_DRAIN_ACTION"]
    running = await agent.start()
    server.port = await running.port()
    assert (await server.status()).exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    assert (await server.status("waits")).exit_code == ScriptExitCode.CANCELLED
    assert not (agent.home / "Work" / "ran").exists()
    await running.stop()


async def test_without_a_deadline_worth_the_name_all_are_cancelled_at_once(agent: AgentHome, server: Server) -> None:
    agent.environment |= {"TENTACLE_DRAIN_TIMEOUT": "00:00:00", "TENTACLE_DRAIN_ACTION": "cancel"}
    running = await agent.start()
    server.port = await running.port()
    waiting = [asyncio.create_task(server.script("echo going; sleep 600", wait=3600, ticket=f"T{n}")) for n in range(5)]
    for n in range(5):
        await server.said("going", f"T{n}")
    await running.stop()
    for answer in await asyncio.gather(*waiting):
        assert isinstance(answer, ScriptStatusResponseV2)
        assert (answer.state, answer.exit_code) == (
            ProcessState.COMPLETE,
            ScriptExitCode.CANCELLED_WHILE_RUNNING,
        )
    await agent.gone()


async def test_a_wish_that_nobody_understands_is_told_and_leaves_them(agent: AgentHome, server: Server) -> None:
    agent.environment |= {"TENTACLE_DRAIN_TIMEOUT": "00:00:00.1", "TENTACLE_DRAIN_ACTION": "kill"}
    running = await agent.start()
    server.port = await running.port()
    # Told at the start, and not when it is too late.
    assert "The environment variable TENTACLE_DRAIN_ACTION is ignored: it is none of leave, cancel" in running.said
    await server.script(f"echo going; until test -e {agent.directory}/go; do sleep 0.02; done")
    await server.said("going")
    await running.stop()
    (agent.directory / "go").touch()
    await agent.gone()
    assert "1 script(s) still run and are left to the next agent: T" in running.said
