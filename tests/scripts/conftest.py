"""The engine's tests run real scripts with the real bash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tentacle.scripts.engine import EngineOptions
from tests.scripts.lab import QUICK, Lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path / "home" / "Work")
    await lab.engine.start()
    yield lab
    await lab.close()
    assert not lab.alive()


@pytest.fixture
async def new_lab(tmp_path: Path) -> AsyncIterator[Callable[..., Lab]]:
    """Makes labs that are not started yet; closes them all in the end."""
    made: list[Lab] = []

    def make(options: EngineOptions = QUICK, work: Path = tmp_path / "home" / "Work") -> Lab:
        made.append(Lab(work, options))
        return made[-1]

    yield make
    for lab in made:
        await lab.close()
