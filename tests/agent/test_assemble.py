"""A whole agent in this process: what it is made of, and that it lets go of everything."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tentacle.agent.assemble import Agent
from tentacle.agent.scripts import make_engine
from tentacle.agent.surroundings import Surroundings
from tentacle.contracts.codec import encode
from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v2 import StartScriptCommandV2
from tentacle.errors import TentacleError
from tentacle.home_layout import SPOOL, WORK
from tentacle.settings.certificates import from_pem
from tentacle.settings.model import Settings
from tentacle.wire.call_context import NOBODY
from tentacle.wire.messages import Request, ServerError
from tests.agent.process import AgentHome, Server
from tests.patience import PATIENCE
from tests.pki import made_by_openssl

SHUTTING_DOWN = "The Tentacle service is shutting down and cannot process this request."


def surroundings(agent: AgentHome, **environment: str) -> Surroundings:
    return Surroundings(agent.config, "I", Path("/opt/tentacle/Tentacle"), environment)


def made(settings: Settings, where: Surroundings) -> Agent:
    return Agent(settings, where, make_engine(settings, where))


def start_script(body: str, wait: timedelta) -> Request:
    command = StartScriptCommandV2(ScriptTicket("T"), body, duration_to_wait_for_script_to_finish=wait)
    return Request("r", "IScriptServiceV2", "StartScript", (encode(command),))


def test_without_a_certificate_there_is_no_agent(agent: AgentHome) -> None:
    with pytest.raises(TentacleError, match="No certificate") as refused:
        made(replace(agent.settings, certificate=None), surroundings(agent))
    assert "new-certificate" in (refused.value.hint or "")


@pytest.mark.usefixtures("no_stray_tasks")
async def test_an_agent_that_ends_leaves_no_call_waiting_and_takes_up_nothing_new(agent: AgentHome) -> None:
    whole = made(agent.settings, surroundings(agent))
    said: list[str] = []
    await whole.start(said.append)
    running = asyncio.create_task(whole.run())
    body = f'echo "$TentacleInstanceName"; until test -e {agent.directory}/go; do sleep 0.02; done'
    waiting = asyncio.create_task(whole._handle(start_script(body, timedelta(hours=1)), {}, NOBODY))
    async with asyncio.timeout(PATIENCE):
        while not whole.engine.running():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await whole.drain(0.05) == ("T",)
    response, _ = await waiting
    assert (response.error, response.result["State"]) == (None, 1)
    for request in (Request("r", "ICapabilitiesServiceV2", "GetCapabilities"), start_script("true", timedelta(0))):
        response, _ = await whole._handle(request, {}, NOBODY)
        assert (response.id, response.error) == ("r", ServerError(SHUTTING_DOWN, SHUTTING_DOWN))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await whole.aclose()
    await whole.aclose()

    (agent.directory / "go").touch()
    following = made(agent.settings, surroundings(agent))
    await following.start(said.append)
    response, _ = await following._handle(start_script("never", timedelta(seconds=10)), {}, NOBODY)
    assert [entry["Text"] for entry in response.result["Logs"]][6] == "I"
    assert response.result["State"] == 2
    await following.aclose()


async def test_what_speaks_against_the_certificate_is_said_again_and_after_a_change(
    agent: AgentHome, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weak = from_pem(*made_by_openssl(tmp_path, "-sha1", "-newkey", "rsa:1024", "-days", "1000"))
    monkeypatch.setattr("tentacle.agent.assemble.REMINDER_SECONDS", 0.05)
    line = f"The certificate {weak.thumbprint} is signed with a weak algorithm (sha1RSA)"

    def times() -> int:
        return [record.getMessage() for record in caplog.records].count(line)

    whole = made(agent.settings, surroundings(agent))
    await whole.start(lambda _: None)
    assert times() == 0
    whole.follow(replace(agent.settings, certificate=weak, previous_certificate=agent.settings.certificate))
    assert times() == 1
    running = asyncio.create_task(whole.run())
    async with asyncio.timeout(PATIENCE):
        while times() < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await whole.aclose()


@pytest.mark.parametrize("legacy", [False, True])
async def test_old_ciphers_are_taken_when_the_instance_allows_them(agent: AgentHome, legacy: bool) -> None:
    whole = made(replace(agent.settings, legacy_ciphers=legacy), surroundings(agent))
    await whole.start(lambda _: None)
    assert whole.listener is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    try:
        with nullcontext() if legacy else pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            _, writer = await asyncio.open_connection("127.0.0.1", whole.listener.port, ssl=context)
            writer.transport.abort()
    finally:
        await whole.aclose()


async def test_one_that_could_not_start_can_be_closed(agent: AgentHome) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    agent.set(port=taken.getsockname()[1])
    whole = made(agent.settings, surroundings(agent))
    with pytest.raises(TentacleError):
        await whole.start(lambda _: None)
    await whole.aclose()
    taken.close()


async def test_a_cleaner_without_a_pause_is_given_one(agent: AgentHome, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tentacle.scripts.retention")
    whole = made(agent.settings, surroundings(agent, TENTACLE_WORKSPACE_CLEANER_DELAY="00:00:00"))
    await whole.start(lambda _: None)
    running = asyncio.create_task(whole.run())
    await asyncio.wait({running}, timeout=0.25)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await whole.aclose()
    assert 1 <= len([r for r in caplog.records if r.getMessage().startswith("Cleaning workspaces")]) <= 4


IN_PLACE_OF_THE_SPOOL: dict[str, Callable[[Path], object]] = {
    "a file": Path.touch,
    "a pipe": os.mkfifo,
    "a directory with directories": lambda spool: (spool / "one" / "more").mkdir(parents=True),
}


@pytest.mark.parametrize("what", IN_PLACE_OF_THE_SPOOL)
async def test_what_lies_in_place_of_the_spool_keeps_no_agent_from_starting(what: str, agent: AgentHome) -> None:
    work = agent.home / WORK
    work.mkdir()
    IN_PLACE_OF_THE_SPOOL[what](work / SPOOL)
    running = await agent.start()
    await running.port()
    assert list((work / SPOOL).iterdir()) == []
    await running.stop()


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit (util-linux)")
async def test_nor_a_hundred_thousand_things_where_memory_is_short(agent: AgentHome, server: Server) -> None:
    work = agent.home / WORK
    (work / ".uploads").mkdir(parents=True)
    (work / SPOOL).mkdir()
    for number in range(25_000):
        (work / f".trash-{number:016x}").mkdir()
        (work / f"directory-{number}").mkdir()
        (work / SPOOL / str(number)).touch()
        (work / ".uploads" / str(number)).touch()
    running = await agent.start(wrapper=("prlimit", f"--as={200_000_000}"))
    server.port = await running.port()
    answer = await server.script("exit 3", wait=PATIENCE)
    assert getattr(answer, "exit_code", answer) == 3
    running.send(signal.SIGTERM)
    assert await running.ended() == (0, [])


async def test_a_spool_that_is_a_link_is_not_used_and_what_it_leads_to_stays(agent: AgentHome) -> None:
    (agent.home / WORK).mkdir()
    (agent.home / WORK / SPOOL).symlink_to(agent.directory)
    running = await agent.start()
    assert "for incoming files: it is a symbolic link" in await running.until("cannot use ")
    await running.port()
    assert agent.config.is_file()
    (beside,) = (agent.home / WORK).glob(f"{SPOOL}-*")
    await running.stop()
    second = await agent.start()
    await second.port()
    assert not beside.exists(), "the next agent makes another one"
    await second.stop()
