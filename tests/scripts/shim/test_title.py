"""What `ps` shows of a process that has given itself a title."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE
from tests.scripts.lab import Lab

CODE = """if 1:
    from pathlib import Path
    from tentacle.scripts.shim.title import ProcessTitle
    title = ProcessTitle()
    length = len(Path("/proc/self/cmdline").read_bytes())
    environ = Path("/proc/self/environ").read_bytes()
    for text in ("short", "\\u00e4" * 9000, "", "again"):
        title.show(text)
        shown = Path("/proc/self/cmdline").read_bytes()
        assert shown.rstrip(b"\\0") == text.encode()[:length - 1], shown
        assert len(shown) == length, shown
    assert Path("/proc/self/environ").read_bytes() == environ
    print("done")
"""


def test_a_title_is_shown_and_harms_nothing_behind_it() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def title_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


async def test_a_shim_shows_the_ticket_of_its_script_as_long_as_that_runs(lab: Lab) -> None:
    await lab.start("echo ready; while [ ! -e go ]; do sleep 0.01; done", "Ticket-1")
    await lab.started("Ticket-1")
    shim = lab.shim("Ticket-1")
    assert shim is not None
    assert title_of(shim) == "tentacle-shim Ticket-1"
    (lab.work / "Ticket-1" / "go").touch()
    await lab.ended("Ticket-1")
    async with asyncio.timeout(PATIENCE):
        while Path(f"/proc/{shim}").exists() and "Ticket-1" in title_of(shim):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
