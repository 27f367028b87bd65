"""What several of these tests meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.sshd import Sshd, sshd


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A machine without an agent that a server reaches by SSH."""
    with sshd(tmp_path_factory.mktemp("ssh")) as started:
        yield started
