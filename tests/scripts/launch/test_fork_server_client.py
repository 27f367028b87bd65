"""The agent's side of the process that starts scripts: what it hands over, and that it can be replaced."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tentacle.scripts.errors import LaunchError
from tentacle.scripts.launch.fork_server_client import ForkServerClient
from tentacle.scripts.launch.fork_servers import OwnForkServer
from tentacle.scripts.launch.shim_pool import ShimPool
from tentacle.scripts.shim.run_order import RunOrder
from tests.patience import PATIENCE
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
    with pytest.raises(
        LaunchError, match=r"could not be started: No such file or directory \(/nowhere/python\)"
    ) as told:
        await ShimPool(ForkServerClient(OwnForkServer("/nowhere/python"))).launch(ORDER)
    assert told.value.hint is not None
    assert "by hand" in told.value.hint
    client = ForkServerClient(OwnForkServer("/bin/false"))
    with pytest.raises(LaunchError, match="ends as soon as it is started"):
        await ShimPool(client).launch(ORDER)
    await client.aclose()


async def test_a_lack_of_open_files_is_told_with_what_to_look_at() -> None:
    code = """import asyncio, resource
from tentacle.scripts.launch.fork_server_client import ForkServerClient
async def start():
    resource.setrlimit(resource.RLIMIT_NOFILE, (7, 7))
    await ForkServerClient().start()
try: asyncio.run(start())
except Exception as error: print(type(error).__name__, error, error.hint, error.exit_code)
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.stdout.startswith("LaunchError The process that starts scripts could not be started: Too many open"), (
        done.stderr
    )
    assert done.stdout.endswith("Look at the limits on open files, tasks and memory of the agent's service. 1\n")


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
