from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.devserver.bed import Bed, bed


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Bed]:
    async with bed(tmp_path) as ready:
        yield ready
