"""A stage and a server for the tests of commands that need a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.stage import Server, Stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


@pytest.fixture(scope="module")
def server(stage: Stage) -> Server:
    return stage.start_server()
