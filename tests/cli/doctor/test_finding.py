"""Probes that block."""

from __future__ import annotations

import time

import pytest

from tentacle.cli.doctor.finding import in_daemon_thread


async def test_what_blocks_is_left_alone_after_its_time() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await in_daemon_thread(lambda: time.sleep(3), 0.1)
    assert time.monotonic() - began < 2.5
    with pytest.raises(OSError, match="gone"):
        await in_daemon_thread(lambda: (_ for _ in ()).throw(OSError("gone")))
