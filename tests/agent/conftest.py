"""An instance of the agent on disk, and a server that may command it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

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
