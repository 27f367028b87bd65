from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.calling.bench import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    ready = Bench(tmp_path)
    yield ready
    await ready.worker.close()
