from __future__ import annotations

import os
import signal
import subprocess

from tentacle.scripts.shim.process_tree import descendants, signal_all, terminate
from tests.scripts.lab import until


def running(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["/bin/bash", "-c", script], start_new_session=True)


async def test_everything_below_a_process_is_found_parents_first() -> None:
    with running("bash -c 'sleep 600 & wait' & wait") as top:
        await until(lambda: len(descendants(top.pid)) == 2)
        assert top.pid in descendants(os.getpid())
        child, grandchild = descendants(top.pid)
        assert descendants(child) == [grandchild]
        assert signal_all([grandchild, child, top.pid], signal.SIGKILL) == set()
    assert top.pid not in descendants(os.getpid())


async def test_the_dead_are_not_counted_and_signalling_them_is_no_error() -> None:
    top = running("exit")
    await until(lambda: top.pid not in descendants(os.getpid()))
    terminate([top.pid])
    top.wait()
    terminate([top.pid])
    assert signal_all([top.pid], signal.SIGKILL) == set()
