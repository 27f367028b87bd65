"""What tests of `systemctl` and of services need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host.stub import Stub


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    return Stub(tmp_path)
