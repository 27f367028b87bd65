from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.devserver.running_server import RunningServer, running_server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path) as started:
        yield started


@pytest.fixture
async def ready(server: RunningServer) -> RunningServer:
    """A server with one worker, whose calls are made once."""
    await server.no_retries()
    await server.worker("w")
    return server
