"""An instance of the agent on disk, and a server that may command it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tentacle.settings.scripts import ScriptSettings
from tests.agent.process import AgentHome, Server, a_server


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[AgentHome]:
    home = AgentHome(tmp_path)
    yield home
    await home.close()
    # Idle shims end by themselves, a moment after their agent.
    await home.gone()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with a_server(tmp_path) as server:
        yield server


@pytest.fixture
async def root_agent() -> AsyncIterator[AgentHome]:
    """An instance that every user can reach, with scripts under users that nobody else has."""
    with tempfile.TemporaryDirectory() as made:
        top = Path(made)
        top.chmod(0o755)
        home = AgentHome(top)
        home.home.chmod(0o711)
        first = 40000 + os.getpid() % 1000 * 20
        settings = ScriptSettings(sandbox="user", uid_range=(first, first + 19))
        home.set(scripts=settings, application_directory=top / "applications")
        yield home
        await home.close()
        await home.gone()
