"""The agent's side of the process that starts scripts: what it hands over, and that it can be replaced."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tentacle.scripts.errors import LaunchError
from tentacle.scripts.launch.fork_server_client import ForkServerClient
from tentacle.scripts.launch.shim_pool import ShimPool
from tentacle.scripts.shim.run_order import RunOrder
from tests.scripts.lab import Lab

ORDER = RunOrder("/nowhere/run", "/nowhere/log", "/nowhere", "/nowhere/script", (), {}, "", (), 1.0)


async def test_no_secret_of_the_environment_touches_the_disk_or_a_command_line(lab: Lab) -> None:
    secret = lab.mark.split("=")[1]
    await lab.start("echo ready; sleep 600")
    await lab.started()
    for path in lab.work.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()
    for pid in (lab.engine._fork_server.pid, *lab.alive()):
        assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_what_cannot_be_started_is_told() -> None:
    with pytest.raises(LaunchError, match="could not be started"):
        await ShimPool(ForkServerClient("/nowhere/python")).launch(ORDER)
    client = ForkServerClient("/bin/false")
    with pytest.raises(LaunchError, match="ends as soon as it is started"):
        await ShimPool(client).launch(ORDER)
    await client.aclose()


async def test_a_caller_that_leaves_does_not_get_its_answer_to_the_next(lab: Lab) -> None:
    client = ForkServerClient()
    pool = ShimPool(client)
    for _ in range(5):
        first = asyncio.create_task(pool.launch(ORDER))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    shim = await pool.launch(ORDER)
    assert shim.pid > 1
    # There is no such run.
    await shim.finished.wait()
    shim.release(clean=True)
    await client.aclose()
