from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.devserver.running_server import RunningServer, running_server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path) as ready:
        yield ready
