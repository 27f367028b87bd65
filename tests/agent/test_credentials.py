"""An agent whose key was handed to it by systemd, as far as the agent itself has to do with it.

That nobody else gets at it is shown in `tests/e2e/test_credentials.py`.
"""

from __future__ import annotations

import os

import pytest

from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tentacle.settings.errors import ConfigurationError
from tentacle.settings.key_places import CREDENTIAL, CREDENTIALS_VARIABLE, key_path_of
from tentacle.settings.store import SettingsFile
from tests.agent.process import AgentHome, Server
from tests.agent.transfer_calls import Caller
from tests.patience import PATIENCE


@pytest.fixture
def handed(agent: AgentHome) -> AgentHome:
    """One whose key lies in its directory of credentials, and nowhere else."""
    credentials = agent.directory / "credentials"
    credentials.mkdir(mode=0o700)
    key_path_of(agent.config).rename(credentials / CREDENTIAL)
    agent.environment[CREDENTIALS_VARIABLE] = str(credentials)
    return agent


async def test_it_reads_what_the_key_seals_and_no_script_is_told_where_it_is(handed: AgentHome, server: Server) -> None:
    running = await handed.start()
    server.port = await running.port()
    answer = await server.script(f"echo ${{{CREDENTIALS_VARIABLE}-none}}", PATIENCE)
    assert isinstance(answer, ScriptStatusResponseV2)
    assert "none" in [entry.text for entry in answer.logs]
    await running.stop()


async def test_no_server_can_fetch_it_for_a_script(handed: AgentHome, server: Server) -> None:
    key = handed.directory / "credentials" / CREDENTIAL
    (handed.directory / "link").symlink_to(key)
    os.link(key, handed.directory / "name")
    running = await handed.start()
    server.port = await running.port()
    caller = Caller(server, server.port)
    for path in (key, handed.directory / "link", f"/proc/{running.process.pid}/root{key}", handed.directory / "name"):
        message, body = await caller.call("DownloadFile", str(path))
        assert (str(message).partition(":")[0].endswith("is denied"), body) == (True, None), message
    await running.stop()


async def test_without_a_certificate_it_says_that_root_has_to_make_one(handed: AgentHome) -> None:
    key = handed.directory / "credentials" / CREDENTIAL
    key.rename(key_path_of(handed.config))
    handed.set(certificate=None)
    key_path_of(handed.config).rename(key)
    running = await handed.start()
    assert await running.process.wait() == 1
    said = " ".join((await running.process.communicate())[1].decode().split())
    assert "The key of this instance is root's, and so only root can change what it seals." in said
    assert "As root, e.g.: Tentacle new-certificate --if-blank" in said


def test_a_key_that_was_handed_over_counts_over_one_beside_and_seals_nothing(handed: AgentHome) -> None:
    key_path_of(handed.config).write_bytes(b"x" * 32)
    file = SettingsFile(handed.config, environ=handed.environment)
    assert file.load() == handed.settings
    with pytest.raises(ConfigurationError, match="only root can change what it seals"):
        file.save(handed.settings)
    with pytest.raises(ConfigurationError, match="cannot be unsealed"):
        SettingsFile(handed.config).load()
