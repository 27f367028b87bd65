"""A drain as the file says it, as a server meets it, and over restarts of the agent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tentacle.agent.control.client import ControlClient
from tentacle.agent.drain import Drain, begin_drain, end_drain, read_drain
from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tentacle.home_layout import DRAIN_FILE, LOCK_FILE
from tentacle.wire.messages import ServerError
from tests.agent.process import AgentHome, Server
from tests.patience import PATIENCE


async def test_a_server_is_refused_until_the_drain_ends_whatever_becomes_of_the_agent(
    agent: AgentHome, server: Server
) -> None:
    running = await agent.start()
    server.port = await running.port()
    assert isinstance(await server.script("true", PATIENCE, "before"), ScriptStatusResponseV2)
    with ControlClient(agent.home) as client:
        client.ask("drain", by="me", reason="new disk")
    refused = await server.script("true", PATIENCE)
    assert isinstance(refused, ServerError)
    assert "This worker is being drained and takes no new scripts." in refused.message
    # What is there already is answered as ever, also when it is asked for once more.
    assert isinstance(await server.script("true", PATIENCE, "before"), ScriptStatusResponseV2)
    await running.stop()
    again = await agent.start()
    assert "by me (new disk): new scripts are refused until 'tentacle undrain'" in await again.until("Draining since")
    server.port = await again.port()
    assert isinstance(await server.script("true", PATIENCE), ServerError)
    with ControlClient(agent.home) as client:
        assert client.ask("status")["phase"] == "draining"
        assert client.ask("undrain") == {"was_draining": True}
    assert isinstance(await server.script("true", PATIENCE), ScriptStatusResponseV2)
    await again.stop()


def test_the_first_time_stays_and_a_new_reason_is_taken(tmp_path: Path) -> None:
    assert read_drain(tmp_path) is None
    assert begin_drain(tmp_path, Drain(1.0, "a")) == Drain(1.0, "a")
    assert begin_drain(tmp_path, Drain(2.0, "b")) == Drain(1.0, "a")
    assert begin_drain(tmp_path, Drain(3.0, "c", "why")) == read_drain(tmp_path) == Drain(1.0, "c", "why")
    assert (end_drain(tmp_path), end_drain(tmp_path), read_drain(tmp_path)) == (True, False, None)


@pytest.mark.parametrize("content", [b"", b"[]", b"{" * 9000, b'{"since": "x", "by": 3}', b"\xff" * 99, b"x" * 20_000])
def test_a_file_that_nobody_understands_counts(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DRAIN_FILE).write_bytes(content)
    os.utime(tmp_path / DRAIN_FILE, (7, 7))
    assert read_drain(tmp_path) == Drain(7.0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_leaves_the_file_to_the_user_of_the_agent(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    os.chown(tmp_path / LOCK_FILE, 65534, 65534)
    begin_drain(tmp_path, Drain(1.0))
    assert (tmp_path / DRAIN_FILE).stat().st_uid == 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run scripts as users of their own")
@pytest.mark.parametrize("how", ["echo '{}' >%s", "mkdir -p %s/more", "ln -s /etc/hostname %s"])
async def test_no_script_with_a_user_of_its_own_takes_an_agent_out_of_service(
    root_agent: AgentHome, server: Server, how: str
) -> None:
    agent = root_agent
    first = await agent.start()
    server.port = await first.port()
    left = await server.script(f"set -e; umask 0; {how % f'../../{DRAIN_FILE}'}", PATIENCE)
    assert isinstance(left, ScriptStatusResponseV2)
    assert left.exit_code == 0
    assert os.path.lexists(agent.home / DRAIN_FILE)
    await first.stop()
    second = await agent.start()
    server.port = await second.port()
    assert isinstance(await server.script("true", PATIENCE, "after"), ScriptStatusResponseV2)
    # Nor does it keep an operator from it.
    with ControlClient(agent.home) as client:
        client.ask("drain", by="me", reason="new disk")
        assert isinstance(await server.script("true", PATIENCE, "drained"), ServerError)
        assert client.ask("undrain") == {"was_draining": True}
        assert client.ask("undrain") == {"was_draining": False}
    await second.stop()
