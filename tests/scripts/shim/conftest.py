"""The pipes of a run, watched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tentacle.scripts.shim.pipes import OutputPipes
from tentacle.scripts.shim.write_order import WriteWatch


@pytest.fixture
def watch() -> Iterator[WriteWatch]:
    watch = WriteWatch()
    yield watch
    watch.close()


@pytest.fixture
def pipes(watch: WriteWatch) -> Iterator[OutputPipes]:
    pipes = OutputPipes(watch)
    yield pipes
    pipes.close()
