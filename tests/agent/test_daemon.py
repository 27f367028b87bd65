"""The agent as a process: what it says at its start, and every way in which it may be told to end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tentacle.agent.daemon import _Input, _Stop
from tentacle.contracts.capabilities import SUPPORTED, CapabilitiesResponseV2
from tentacle.contracts.script import ProcessState
from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tentacle.transport.errors import CallFailed
from tentacle.wire.messages import ServerError
from tests.agent.process import AgentHome, Running, Server
from tests.patience import PATIENCE
from tests.pki import identity

THUMBPRINT = identity("server").thumbprint
SHUTTING_DOWN = "The Tentacle service is shutting down and cannot process this request."
PIPE = asyncio.subprocess.PIPE


# --- the start -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_listens_and_an_idle_one_ends_at_once(agent: AgentHome, number: signal.Signals) -> None:
    agent.environment["TENTACLE_DRAIN_TIMEOUT"] = "1h"
    running = await agent.start()
    port = await running.port()
    trust, started, listening = running.said
    assert trust == f"Agent will trust Octopus Servers with the thumbprint: {THUMBPRINT}"
    assert re.fullmatch(rf"listen://127\.0\.0\.1:{port}/ +\d+  Listener started", started)
    assert listening == f"Agent listening on: 127.0.0.1:{port}"
    async with asyncio.timeout(PATIENCE):
        while not (agent.home / "livez.heartbeat").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await running.stop(number)
    assert running.said[3:] == [f"Received {number.name}: the agent stops", "Agent stopped"]
    assert not (agent.home / "livez.heartbeat").exists(), "a probe would take it for alive"
    await agent.gone()


async def test_it_is_at_home_on_every_address(agent: AgentHome) -> None:
    agent.set(listen_ip=None)
    running = await agent.start()
    port = await running.port()
    assert re.search(r"^listen://(\[::\]|0\.0\.0\.0):\d+/", running.said[-2])
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        if family is socket.AF_INET or socket.has_dualstack_ipv6():
            with socket.create_connection((address, port), timeout=PATIENCE):
                pass
    await running.stop()


async def test_it_answers_whom_it_trusts(agent: AgentHome, server: Server) -> None:
    running = await agent.start()
    server.port = await running.port()
    assert await server.answer("ICapabilitiesServiceV2", "GetCapabilities") == CapabilitiesResponseV2(SUPPORTED)
    await running.stop(signal.SIGQUIT)


async def test_it_does_not_answer_others(agent: AgentHome, server: Server) -> None:
    agent.set(servers=())
    running = await agent.start()
    server.port = await running.port()
    assert running.said[0] == "The agent is not configured to trust any Octopus Servers."
    with pytest.raises(CallFailed):
        await server.answer("ICapabilitiesServiceV2", "GetCapabilities")
    await running.stop()


async def test_it_polls(agent: AgentHome, server: Server) -> None:
    agent.poll(server.listener.port)
    agent.environment["TentaclePollingConnectionCount"] = "2"
    running = await agent.start()
    assert await server.answer("ICapabilitiesServiceV2", "GetCapabilities") == CapabilitiesResponseV2(SUPPORTED)
    await running.until("Polling 127.0.0.1:")
    assert running.said[:5] == [
        f"Agent will trust Octopus Servers with the thumbprint: {THUMBPRINT}",
        f"Agent will poll Octopus Server at https://127.0.0.1:{server.listener.port}/ "
        f"for subscription poll://abcdefghijklmnopqrst/ expecting thumbprint {THUMBPRINT}",
        "Requested polling connection count (from TentaclePollingConnectionCount environment variable): 2",
        "Starting 2 polling connections",
        "Agent will not listen on any TCP ports",
    ]
    await running.stop()


# --- what keeps it from starting -----------------------------------------------------------------------------------


async def refusal(running: Running) -> str:
    """What an agent that did not start says on standard error: what is wrong, and then what to do."""
    code, problems = await running.ended()
    assert code == 1
    assert len(problems) == 2, problems
    return problems[0]


async def test_a_port_that_is_taken(agent: AgentHome) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        agent.set(port=port)
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in await refusal(await agent.start())
    await agent.gone()


async def test_two_agents_in_one_home(agent: AgentHome) -> None:
    first = await agent.start()
    await first.port()
    said = await refusal(await agent.start())
    assert f"another agent (process {first.process.pid}) is already running for {agent.home}" in said
    await first.stop()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"home": Path("/proc/nowhere")}, "cannot use the home directory /proc/nowhere: No such file or directory"),
        ({"port": 65536}, "65536 is not a port to listen on"),
        ({"listen_ip": "999.1.1.1"}, "cannot listen on 999.1.1.1:0: "),
    ],
)
async def test_settings_that_cannot_work(agent: AgentHome, changes: dict[str, Any], said: str) -> None:
    agent.set(**changes)
    assert said in await refusal(await agent.start())


async def test_an_address_that_cannot_be_polled_is_refused(agent: AgentHome) -> None:
    agent.poll(1)
    agent.set(servers=tuple(replace_address(s, "wss://octopus:x") for s in agent.settings.servers))
    assert "'wss://octopus:x' is not one that can be polled" in await refusal(await agent.start())


def replace_address(entry: Any, address: str) -> Any:
    return type(entry)(entry.thumbprint, entry.style, address, entry.subscription_id)


# --- with scripts --------------------------------------------------------------------------------------------------


def script(directory: Path) -> str:
    """Says that it runs, and goes on until it is let go."""
    return f"echo going; until test -e {directory}/go; do sleep 0.02; done; echo done; exit 7"


def reach(agent: AgentHome, server: Server, mode: str) -> None:
    if mode == "polling":
        agent.poll(server.listener.port)
        agent.set(polling_connection_count=3)


async def up(agent: AgentHome, server: Server, mode: str) -> Running:
    running = await agent.start()
    if mode == "listening":
        server.port = await running.port()
    else:
        await running.until("Polling 127.0.0.1:")
    return running


@pytest.mark.parametrize("mode", ["listening", "polling"])
async def test_a_running_script_may_finish(agent: AgentHome, server: Server, mode: str) -> None:
    agent.environment["TENTACLE_DRAIN_TIMEOUT"] = "00:01:00"
    reach(agent, server, mode)
    running = await up(agent, server, mode)
    waiting = asyncio.create_task(server.script(script(agent.directory), wait=3600))
    await server.said("going")
    running.send(signal.SIGTERM)
    await running.until("Waiting up to 60 seconds for 1 running script(s); new ones are refused")
    assert await server.script("echo never", ticket="other") == ServerError(SHUTTING_DOWN, SHUTTING_DOWN)
    assert (await server.status()).state is ProcessState.RUNNING
    (agent.directory / "go").touch()
    answer = await waiting
    assert isinstance(answer, ScriptStatusResponseV2)
    assert (answer.state, answer.exit_code) == (ProcessState.COMPLETE, 7)
    assert await running.ended() == (0, [])
    await agent.gone()


@pytest.mark.parametrize("mode", ["listening", "polling"])
async def test_one_that_does_not_is_left_to_the_next_agent(agent: AgentHome, server: Server, mode: str) -> None:
    """Also, a call that waits an hour for it holds nothing up, and is told how things stand."""
    agent.environment["TENTACLE_DRAIN_TIMEOUT"] = "00:00:00.1"
    reach(agent, server, mode)
    running = await up(agent, server, mode)
    waiting = asyncio.create_task(server.script(script(agent.directory), wait=3600))
    await server.said("going")
    await running.stop()
    assert "1 script(s) still run and are left to the next agent: T" in running.said
    answer = await waiting
    assert isinstance(answer, ScriptStatusResponseV2)
    assert (answer.state, answer.logs[-1].text) == (ProcessState.RUNNING, "going")
    running = await up(agent, server, mode)
    again = asyncio.create_task(server.script("echo never", wait=3600))
    await server.said("going")
    (agent.directory / "go").touch()
    answer = await again
    assert isinstance(answer, ScriptStatusResponseV2)
    assert [e.text for e in answer.logs[-3:-1]] == ["going", "done"]
    assert answer.exit_code == 7
    await running.stop()
    await agent.gone()


async def test_a_second_signal_ends_it_at_once_and_the_script_goes_on(agent: AgentHome, server: Server) -> None:
    agent.environment["TENTACLE_DRAIN_TIMEOUT"] = "01:00:00"
    running = await up(agent, server, "listening")
    await server.script(script(agent.directory))
    await server.said("going")
    running.send(signal.SIGTERM)
    await running.until("Waiting up to 3600 seconds for 1 running script(s)")
    await running.stop(signal.SIGINT)
    assert running.said[-1] == "Received SIGINT again: ending at once"
    await finishes_under_the_next(agent, server)


async def test_a_killed_one_too(agent: AgentHome, server: Server) -> None:
    running = await up(agent, server, "listening")
    await server.script(script(agent.directory))
    await server.said("going")
    running.send(signal.SIGKILL)
    assert (await running.ended())[0] == -signal.SIGKILL
    await finishes_under_the_next(agent, server)


async def finishes_under_the_next(agent: AgentHome, server: Server) -> None:
    running = await up(agent, server, "listening")
    assert (await server.status()).state is ProcessState.RUNNING
    (agent.directory / "go").touch()
    assert (await server.finished()).exit_code == 7
    await running.stop()
    await agent.gone()


# --- standard input ------------------------------------------------------------------------------------------------


async def say(running: Running, text: bytes) -> None:
    assert running.process.stdin is not None
    running.process.stdin.write(text)
    await running.process.stdin.drain()


async def test_an_empty_line_ends_it(agent: AgentHome) -> None:
    running = await agent.start("--console", stdin=PIPE)
    await running.until("Running. Press <enter> to shut down...")
    await say(running, b"now\n\n")
    await running.until("Enter: the agent stops")
    assert await running.ended() == (0, [])


@pytest.mark.parametrize(
    ("typed", "ends"),
    [
        ([b"\n"], True),
        ([b"\r\n"], True),
        ([b"  \t\n"], True),
        ([b"stop\nnow\n\n"], True),
        ([b"begun\n\nmore"], True),
        ([b"be", b"gun", b"\n", b"\n"], True),
        ([b" ", b" ", b"\n"], True),
        ([b"stop\n", b"now\n"], False),
        ([b"x", b"\n", b" x", b" \n"], False),
        ([b"no end to this line"], False),
    ],
)
async def test_which_lines_are_empty(typed: list[bytes], ends: bool) -> None:
    stop = _Stop()
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream:
        lines = _Input(stop)
        lines.watch(stream)
        for text in typed:
            os.write(writing, text)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert stop.first.is_set() is ends
        os.close(writing)
        async with asyncio.timeout(PATIENCE):
            await stop.first.wait()
        asyncio.get_running_loop().remove_reader(reading)


async def test_the_end_of_the_input_ends_it_and_other_lines_do_not(agent: AgentHome, server: Server) -> None:
    running = await agent.start("--console", stdin=PIPE)
    server.port = await running.port()
    await running.until("Running. Press <enter> to shut down...")
    for text in (b"status\n", b"half a li", b"ne\n", b"the beginning of another"):
        await say(running, text)
        assert await server.answer("ICapabilitiesServiceV2", "GetCapabilities") == CapabilitiesResponseV2(SUPPORTED)
    assert running.process.stdin is not None
    running.process.stdin.close()
    await running.until("End of input: the agent stops")
    assert await running.ended() == (0, [])


@pytest.mark.parametrize("redirection", ["</dev/null", "<&-"])
async def test_an_input_from_which_nothing_can_come(agent: AgentHome, redirection: str) -> None:
    running = await agent.start("--console", wrapper=("/bin/sh", "-c", f'exec "$@" {redirection}', "sh"))
    await running.until("End of input: the agent stops")
    assert await running.ended() == (0, [])


async def test_the_end_of_the_input_is_no_second_signal(agent: AgentHome, server: Server) -> None:
    """A terminal that is closed sends both."""
    running = await agent.start("--console", stdin=PIPE)
    server.port = await running.port()
    await server.script(script(agent.directory))
    await server.said("going")
    running.send(signal.SIGHUP)
    assert running.process.stdin is not None
    running.process.stdin.close()
    await running.until("Waiting up to 10 seconds")
    (agent.directory / "go").touch()
    assert await running.ended() == (0, [])
    assert running.said[-1] == "Agent stopped"


async def test_under_nohup_it_does_not_hear_a_hang_up(agent: AgentHome, server: Server) -> None:
    running = await agent.start(wrapper=("/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh"))
    server.port = await running.port()
    running.send(signal.SIGHUP)
    async with asyncio.timeout(PATIENCE):
        assert await server.answer("ICapabilitiesServiceV2", "GetCapabilities") == CapabilitiesResponseV2(SUPPORTED)
    await running.stop()
    assert not [line for line in running.said if "SIGHUP" in line]


async def test_the_service_manager_is_told_which_connections_are_up(
    agent: AgentHome, server: Server, tmp_path: Path
) -> None:
    """As soon as they are, and as soon as they are not."""
    agent.poll(server.listener.port)
    agent.environment["TentaclePollingConnectionCount"] = "2"
    agent.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)

        async def told(text: str) -> None:
            while f"STATUS={text}; 0 script(s) running" not in (await asyncio.to_thread(manager.recv, 4096)).decode():
                pass

        running = await agent.start()
        await told("polling 1 server, 2 of 2 connections up")
        await server.listener.aclose()
        await told("polling 1 server, 0 of 2 connections up")
        running.send(signal.SIGTERM)
        assert (await running.ended())[0] == 0
