"""Probes that block, and probes that fail."""

from __future__ import annotations

import os
import threading

import pytest

from tentacle.cli.doctor.finding import Finding, Level, in_daemon_thread, local_probe
from tentacle.disk import user_name
from tentacle.errors import TentacleError
from tests.patience import PATIENCE


async def test_what_blocks_is_left_alone_after_its_time() -> None:
    over, ended = threading.Event(), threading.Event()

    def blocks() -> None:
        over.wait(PATIENCE)
        ended.set()

    with pytest.raises(TimeoutError):
        await in_daemon_thread(blocks, 0.1)
    assert not ended.is_set()
    over.set()
    assert ended.wait(PATIENCE)
    with pytest.raises(OSError, match="gone"):
        await in_daemon_thread(lambda: (_ for _ in ()).throw(OSError("gone")))


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("gone"), RuntimeError("gone"), TentacleError("gone")])
async def test_what_cannot_be_looked_at_is_a_finding(error: Exception) -> None:
    def look() -> list[Finding]:
        raise error

    [found] = await local_probe("disk", look)()
    assert (found.level, found.found) == (Level.FAIL, "could not be looked at: gone")


async def test_what_this_user_may_not_look_at_names_the_user() -> None:
    def look() -> list[Finding]:
        raise PermissionError(13, "Permission denied", "/srv/file")

    [found] = await local_probe("disk", look)()
    assert found.found == f"{user_name(os.geteuid())} may not look at /srv/file"
