"""The small process that starts scripts: what it costs, what it shows, and that it can be replaced."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tentacle.scripts.errors import LaunchError
from tentacle.scripts.launch.fork_server_client import Launcher
from tentacle.scripts.launch.shim_pool import Watchers
from tentacle.scripts.shim.process_tree import is_alive
from tests.scripts.lab import Lab, lines, until


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_it_is_small(lab: Lab) -> None:
    await lab.run("true")
    nursery = lab.engine._launcher.pid
    maps = Path(f"/proc/{nursery}/maps").read_text()
    assert "libssl" not in maps
    assert "_rust" not in maps, "cryptography has no business there"
    status = dict(line.split(":", 1) for line in Path(f"/proc/{nursery}/status").read_text().splitlines())
    assert int(status["VmRSS"].split()[0]) < 24_000


async def test_no_secret_of_the_environment_touches_the_disk_or_a_command_line(lab: Lab) -> None:
    secret = lab.mark.split("=")[1]
    await lab.start("echo ready; sleep 600")
    await lab.started()
    for path in lab.work.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()
    for pid in (lab.engine._launcher.pid, *lab.alive()):
        assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_it_ends_with_its_agent_and_leaves_no_zombie(lab: Lab) -> None:
    nursery = lab.engine._launcher.pid
    assert nursery is not None
    assert lines(await lab.run("echo one")) == ["one"]
    (watcher,) = children(nursery)
    await lab.engine.aclose()
    assert not Path(f"/proc/{nursery}").exists()
    await until(lambda: not is_alive(watcher))


async def test_what_cannot_be_started_is_told() -> None:
    with pytest.raises(LaunchError, match="could not be started"):
        await Watchers(Launcher("/nowhere/python")).launch(b"{}")
    launcher = Launcher("/bin/false")
    with pytest.raises(LaunchError, match="ends as soon as it is started"):
        await Watchers(launcher).launch(b"{}")
    await launcher.aclose()


async def test_a_caller_that_leaves_does_not_get_its_answer_to_the_next(lab: Lab) -> None:
    launcher = Launcher()
    watchers = Watchers(launcher)
    for _ in range(5):
        first = asyncio.create_task(watchers.launch(b"{}"))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    watcher = await watchers.launch(b"{}")
    assert watcher.pid > 1
    # There is nothing to be watched over in an empty document.
    await watcher.over.wait()
    watcher.let_go(clean=True)
    await launcher.aclose()


async def test_the_processes_can_be_told_apart(lab: Lab) -> None:
    await lab.start("echo ready; sleep 600")
    await lab.started()
    nursery = lab.engine._launcher.pid
    assert nursery is not None
    (runner,) = children(nursery)
    assert Path(f"/proc/{nursery}/comm").read_text() == "tentacle-nurse\n"
    assert Path(f"/proc/{runner}/comm").read_text() == "tentacle-run\n"
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(runner, number)
    assert Path(f"/proc/{runner}").exists()
