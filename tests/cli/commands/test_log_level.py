"""`log-level` as the installed program, beside a real agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.agent.process import TENTACLE, AgentHome


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[AgentHome]:
    home = AgentHome(tmp_path)
    yield home
    await home.close()
    await home.gone()


async def log_level(agent: AgentHome, *words: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(str(TENTACLE), "log-level", f"--config={agent.config}", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    return process.returncode, said


async def test_a_running_agent_says_more_for_a_while(agent: AgentHome) -> None:
    running = await agent.start()
    await running.port()
    assert await log_level(agent) == (0, "The level of the agent's log is info\n")
    code, said = await log_level(agent, "DEBUG", "--for=10m", "--format=json")
    answer: dict[str, Any] = json.loads(said)
    assert (code, answer["LogLevel"]) == (0, "debug")
    assert answer["Until"].endswith("Z")
    await running.until("The level of this log is Debug for 600 seconds")
    assert (await log_level(agent))[1].startswith("The level of the agent's log is debug until ")
    assert await log_level(agent, "default") == (0, "The level of the agent's log is info\n")
    await running.until("The level of this log is Info")
    await running.stop()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("loud",), "'loud' is no level"),
        (("debug", "info"), "'debug info' is no level"),
        (("debug", "--for=soon"), "must be a time from 1s to 7d"),
        (("debug", "--for=8d"), "must be a time from 1s to 7d"),
        (("--for=10m",), "--for goes with a level"),
        (("default", "--for=10m"), "--for goes with a level"),
        (("debug",), "No agent of this instance is running"),
    ],
)
async def test_what_cannot_be_done_is_said(agent: AgentHome, words: tuple[str, ...], why: str) -> None:
    code, said = await log_level(agent, *words)
    assert code == 1
    assert why in said


async def test_the_log_of_an_agent_is_json_where_that_is_set(agent: AgentHome) -> None:
    agent.set(logs=replace(agent.settings.logs, format="json"))
    running = await agent.start()
    line = json.loads(await running.until("Agent listening on"))
    assert (line["Level"], line["Logger"]) == ("Info", "tentacle.agent.daemon")
    await running.stop()
    assert [json.loads(one)["Level"] for one in running.said]
    file = agent.home / "Logs" / "OctopusTentacle.txt"
    assert [json.loads(one)["Message"] for one in file.read_text().splitlines()]
