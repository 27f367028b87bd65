"""Every test of a service gets the real dispatcher over a real engine, once by each wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.services.bench import Bench
from tests.services.https_wire import HttpsWire, by_https
from tests.services.polled_wire import by_polling


@pytest.fixture(params=["halibut", "https", "polled"])
async def bench(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Bench]:
    async with a_bench(tmp_path) as bench:
        if request.param == "halibut":
            yield bench
            return
        by = by_https if request.param == "https" else by_polling
        async with by(bench, tmp_path_factory.mktemp("https")):
            yield bench


@pytest.fixture
async def halibut_bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with a_bench(tmp_path) as bench:
        yield bench


@pytest.fixture
async def https(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HttpsWire]:
    async with a_bench(tmp_path) as bench, by_https(bench, tmp_path_factory.mktemp("https")) as wire:
        yield wire


@asynccontextmanager
async def a_bench(directory: Path) -> AsyncIterator[Bench]:
    home = directory / "instance"
    home.mkdir()
    bench = Bench(home)
    await bench.engine.start()
    try:
        yield bench
    finally:
        await bench.close()
    assert not bench.alive()
