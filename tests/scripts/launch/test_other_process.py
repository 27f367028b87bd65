"""A process that is not our child, with a pidfd and without."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tentacle.scripts.launch.other_process import OtherProcess
from tests.patience import PATIENCE


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("by_number", [False, True])
async def test_it_is_asked_to_end_and_its_end_is_waited_for(
    sleeper: subprocess.Popen[bytes], *, by_number: bool
) -> None:
    other = OtherProcess(sleeper.pid, None) if by_number else OtherProcess.open(sleeper.pid)
    assert other is not None
    assert other.is_safe is not by_number
    sleeper.send_signal(signal.SIGSTOP)
    waiting = asyncio.create_task(other.wait(lambda: sleeper.poll() is None))
    other.send(signal.SIGTERM)
    other.send(signal.SIGCONT)
    async with asyncio.timeout(PATIENCE):
        await waiting
    assert sleeper.wait() == -signal.SIGTERM
    other.send(signal.SIGTERM)
    other.close()
    other.close()


def test_one_that_has_gone_is_none() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    assert OtherProcess.open(process.pid) is None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
