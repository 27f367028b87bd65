"""A real agent, watched with curl: whether it can take work, its numbers and its status."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families as parse

from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v2 import CompleteScriptCommandV2
from tentacle.settings.model import CommunicationStyle, TrustedServer
from tentacle.settings.monitor import MonitorAddress
from tests.agent.process import SUBSCRIPTION, TENTACLE, AgentHome, Running, Server
from tests.agent.test_small_disk import on_a_disk_of
from tests.patience import PATIENCE
from tests.pki import identity
from tests.transport.harness import run


async def curl(path: str, *options: str) -> tuple[int, str]:
    """The status and the body of what `path`, a Unix socket and a path, answers."""
    place, _, what = path.partition("//")
    process = await asyncio.create_subprocess_exec(
        *("curl", "-s", "-w", "\n%{http_code}", "--unix-socket", place, *options, f"http://localhost/{what}"),
        stdout=asyncio.subprocess.PIPE,
    )
    body, _, code = (await process.communicate())[0].decode().rpartition("\n")
    return int(code), body


def watched(agent: AgentHome, tmp_path: Path, **changes: Any) -> str:
    """Where the agent will be watched: a beginning for `curl`."""
    place = tmp_path / "monitor.sock"
    agent.set(monitor=MonitorAddress(path=str(place)), **changes)
    return f"{place}//"


async def is_watched(running: Running) -> None:
    await running.until("The agent can be watched at")


async def numbers(place: str) -> dict[str, float]:
    code, text = await curl(f"{place}metrics")
    assert code == 200
    found = {}
    for family in parse(text):
        for one in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(one.labels.items()))
            found[f"{one.name}{{{labels}}}" if labels else one.name] = one.value
    return found


async def until(place: str, name: str, value: float) -> dict[str, float]:
    """The numbers, once `name` has that value."""
    async with asyncio.timeout(PATIENCE):
        while (found := await numbers(place)).get(name) != value:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


async def test_a_listening_agent_is_ready_until_it_is_drained(agent: AgentHome, tmp_path: Path) -> None:
    place = watched(agent, tmp_path)
    running = await agent.start()
    await is_watched(running)
    assert await curl(f"{place}healthz") == (200, "ok\n")
    assert await curl(f"{place}readyz") == (200, "ready\n")
    drain = await asyncio.create_subprocess_exec(
        *(str(TENTACLE), "drain", f"--config={agent.config}", "--reason=new disk"), stdout=asyncio.subprocess.DEVNULL
    )
    await drain.wait()
    code, said = await curl(f"{place}readyz")
    assert code == 503
    assert said.startswith("drain: ")
    assert "(new disk)" in said
    assert (await numbers(place))["tentacle_draining"] == 1
    await running.stop()
    assert not (tmp_path / "monitor.sock").exists()


async def test_an_agent_that_trusts_nobody_or_reaches_nobody_is_alive_and_not_ready(
    agent: AgentHome, tmp_path: Path
) -> None:
    place = watched(agent, tmp_path, servers=())
    running = await agent.start()
    await is_watched(running)
    assert await curl(f"{place}healthz") == (200, "ok\n")
    assert await curl(f"{place}readyz") == (503, "trust: no server is trusted\n")
    await running.stop()
    server = TrustedServer(
        identity("server").thumbprint, CommunicationStyle.TENTACLE_ACTIVE, "https://127.0.0.1:1", SUBSCRIPTION
    )
    agent.set(servers=(server,), no_listen=True)
    running = await agent.start()
    await is_watched(running)
    said = "connections: the port is not open, and no polling connection is up\n"
    assert await curl(f"{place}readyz") == (503, said)
    found = await until(place, "tentacle_polling_failures_total{reason=connect,server=https://127.0.0.1:1/}", 1)
    assert found["tentacle_polling_connections_up{server=https://127.0.0.1:1/}"] == 0
    running.process.terminate()
    await running.ended()


async def test_an_agent_without_room_for_scripts_says_what_is_missing(agent: AgentHome, tmp_path: Path) -> None:
    """Its work directory is a file system of its own, which is too small, then has no file left, then is read-only."""
    place, work = watched(agent, tmp_path), agent.home / "Work"
    running = await agent.start(wrapper=on_a_disk_of("size=900M,nr_inodes=100", work))
    await is_watched(running)
    assert await curl(f"{place}readyz") == (200, "ready\n")
    inside = Path(f"/proc/{running.process.pid}/root{work}")
    files = [inside / f"f{number}" for number in range(100)]
    with suppress(OSError):
        for file in files:
            file.touch()
    assert await curl(f"{place}readyz") == (503, f"disk: 0 more files can be made in {work}, and a script needs some\n")
    for file in files:
        file.unlink(missing_ok=True)
    enter = ("nsenter", f"--target={running.process.pid}", "--mount", "--user" * (os.geteuid() != 0))
    remount = (*filter(None, enter), "mount", "-o")
    assert (await run(*remount, "remount,size=4M", str(work)))[0] == 0
    code, said = await curl(f"{place}readyz")
    assert (code, said.partition(" free")[0].endswith(" are")) == (503, True)
    assert said.endswith("and without 551 MB no script is started\n")
    assert (await run(*remount, "remount,ro,size=900M", str(work)))[0] == 0
    assert await curl(f"{place}readyz") == (503, f"disk: the file system of {work} can only be read\n")


async def test_an_agent_that_hangs_gives_no_answer(agent: AgentHome, tmp_path: Path) -> None:
    place = watched(agent, tmp_path)
    running = await agent.start()
    await is_watched(running)
    running.send(signal.SIGSTOP)
    code, _ = await curl(f"{place}healthz", "--max-time", "0.5")
    assert code == 0
    running.send(signal.SIGCONT)
    assert await curl(f"{place}healthz") == (200, "ok\n")


async def test_the_numbers_of_scripts(agent: AgentHome, server: Server, tmp_path: Path) -> None:
    place = watched(agent, tmp_path)
    running = await agent.start()
    server.port = await running.port()
    await is_watched(running)
    found = await numbers(place)
    assert found["tentacle_scripts_finished_total{result=success}"] == 0
    await server.script("mkfifo pipe; echo begun; cat pipe", ticket="A")
    await server.said("begun", "A")
    found = await numbers(place)
    assert found["tentacle_scripts{state=running}"] == 1
    assert found["tentacle_script_log_bytes_total"] > 0
    await server.script("exit 3", wait=PATIENCE, ticket="B")
    found = await until(place, "tentacle_scripts{state=undelivered}", 1)
    assert found["tentacle_scripts_finished_total{result=failure}"] == 1
    assert found["tentacle_script_duration_seconds_count"] == 1
    assert found["tentacle_script_queue_seconds_count"] == 2
    assert found["tentacle_oldest_undelivered_result_age_seconds"] > 0
    assert found["tentacle_listening_connections{peer=trusted}"] >= 1
    assert found["tentacle_last_call_timestamp_seconds"] > found["tentacle_start_time_seconds"]
    (tmp_path / "instance" / "Work" / "A" / "pipe").write_text("end\n")
    await until(place, "tentacle_scripts_finished_total{result=success}", 1)
    await running.stop()


async def test_results_that_an_earlier_agent_has_left_are_not_forgotten(
    agent: AgentHome, server: Server, tmp_path: Path
) -> None:
    place = watched(agent, tmp_path)
    running = await agent.start()
    server.port = await running.port()
    await server.script("exit 3", wait=PATIENCE)
    await running.stop()
    running = await agent.start()
    server.port = await running.port()
    await is_watched(running)
    found = await until(place, "tentacle_scripts{state=undelivered}", 1)
    assert found["tentacle_oldest_undelivered_result_age_seconds"] > 0
    assert found["tentacle_scripts_finished_total{result=failure}"] == 0
    await server.finished()
    assert (await numbers(place))["tentacle_scripts{state=undelivered}"] == 1
    await server.answer("IScriptServiceV2", "CompleteScript", CompleteScriptCommandV2(ScriptTicket("T")))
    found = await until(place, "tentacle_scripts{state=undelivered}", 0)
    assert found["tentacle_oldest_undelivered_result_age_seconds"] == 0
    await running.stop()


async def test_the_status_is_that_of_the_command(agent: AgentHome, server: Server, tmp_path: Path) -> None:
    place = watched(agent, tmp_path)
    running = await agent.start()
    server.port = await running.port()
    await is_watched(running)
    code, body = await curl(f"{place}status")
    assert code == 200
    process = await asyncio.create_subprocess_exec(
        *(str(TENTACLE), "status", f"--config={agent.config}", "--format=json"), stdout=asyncio.subprocess.PIPE
    )
    by_command, by_monitor = json.loads((await process.communicate())[0]), json.loads(body)
    # Other programs use the disk meanwhile.
    for document in (by_command, by_monitor):
        assert document["Disk"].pop("FreeBytes") > 0
    assert by_monitor == by_command
    await running.stop()


async def test_strangers_are_counted_by_why_they_were_refused(agent: AgentHome, server: Server, tmp_path: Path) -> None:
    place = watched(agent, tmp_path)
    running = await agent.start()
    port = await running.port()
    await is_watched(running)
    stranger = await asyncio.create_subprocess_exec(
        *("curl", "-sk", "--tls-max", "1.2", "--ciphers", "AES128-SHA", f"https://127.0.0.1:{port}/")
    )
    await stranger.wait()
    found = await until(place, "tentacle_handshake_failures_total{reason=no_common_cipher}", 1)
    assert found["tentacle_listening_accepted_total"] == 1
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    await reader.read()
    writer.close()
    await until(place, "tentacle_handshake_failures_total{reason=tls}", 1)
    running.process.terminate()
    await running.ended()
