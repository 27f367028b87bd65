"""Every test of a service gets the real dispatcher over a real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.bench import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    home = tmp_path / "instance"
    home.mkdir()
    bench = Bench(home)
    await bench.engine.start()
    yield bench
    await bench.close()
    assert not bench.alive()
