"""What the engine's tests share: an engine on a directory of its own, and a way to count what a script left alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from tentacle.contracts.script import ProcessOutputSource
from tentacle.errors import TentacleError
from tentacle.home_layout import MASK_KEY, RUNS
from tentacle.scripts.engine import EngineOptions, RunStatus, ScriptEngine, StartRequest
from tentacle.scripts.shim import run_record
from tentacle.scripts.workspace import boots, finished
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.run_files import run_name
from tests.patience import PATIENCE

ENDED = run_record.Result.now(0)
"""For a log of which it only counts that the run is over."""
QUICK = EngineOptions(cancel_grace=0.3, minimum_free_bytes=None)
HELD = "until [ -e ../../go ]; do sleep 0.02; done"
"""Shell words by which a script waits for `Lab.let_go`."""
_NAMES = {
    ProcessOutputSource.STD_OUT: "StdOut",
    ProcessOutputSource.STD_ERR: "StdErr",
    ProcessOutputSource.DEBUG: "Debug",
}


class Lab:
    """An engine whose scripts carry a mark in their environment, by which they are found in /proc."""

    def __init__(self, work: Path, options: EngineOptions = QUICK) -> None:
        self.work = work
        self.mark = f"TENTACLE_LAB={uuid4().hex}"
        name, value = self.mark.split("=")
        self.engine = ScriptEngine(work, environment={name: value}, options=options)

    async def run(self, body: str, ticket: str = "T-1", seconds: float = PATIENCE, **more: Any) -> RunStatus:
        """Starts a script and waits for its end."""
        return await self.engine.start_script(StartRequest(ticket, body, **more), timedelta(seconds=seconds))

    async def start(self, body: str, ticket: str = "T-1", **more: Any) -> RunStatus:
        """Starts a script and does not wait."""
        return await self.engine.start_script(StartRequest(ticket, body, **more))

    async def started(self, ticket: str = "T-1", line: str = "ready") -> None:
        """Waits until the script has said `line`."""
        await self.until(ticket, lambda status: line in [e.text for e in status.entries])

    async def until(self, ticket: str, wanted: Callable[[RunStatus], bool], seconds: float = PATIENCE) -> RunStatus:
        async with asyncio.timeout(seconds):
            while True:
                status = await self.engine.status(ticket, 0)
                assert status is not None
                if wanted(status):
                    return status
                await asyncio.sleep(0.005)

    def let_go(self) -> None:
        """Lets the scripts go on that wait by `HELD`."""
        (self.work.parent / "go").touch()

    async def ended(self, ticket: str = "T-1", seconds: float = PATIENCE) -> RunStatus:
        return await self.until(ticket, lambda status: status.state.name == "COMPLETE", seconds)

    async def logged(self, text: str, ticket: str = "T-1") -> None:
        """Waits until `text` stands in the log's file, whoever writes it."""
        log = self.log_path(ticket)
        await until(lambda: log.exists() and text.encode() in log.read_bytes())

    def run_path(self, ticket: str = "T-1") -> Path:
        return self.engine.workspaces.runs.run_path(run_name(ticket))

    def log_path(self, ticket: str = "T-1") -> Path:
        return self.engine.workspaces.runs.log_path(run_name(ticket))

    def shim(self, ticket: str = "T-1") -> int | None:
        """Returns the process number of the run's shim; `None` when there is none."""
        with self.run_path(ticket).open("rb") as file:
            return run_record.holder(file.fileno())

    def age(self, ticket: str, days: float = 2) -> None:
        """As if the script had ended so long ago."""
        with self.run_path(ticket).open("r+b") as file:
            result = run_record.read_result(file.fileno())
            assert result is not None
            since_boot = result.since_boot - int(days * 86_400_000)
            run_record.write_result(file.fileno(), result._replace(since_boot=since_boot))

    async def left(self) -> list[str]:
        """What is below the work directory, once everything has been removed that is to be."""
        await self.engine.completed.drained()
        # As the cleaner does, which is no part of the engine.
        for path in list(self.engine.workspaces.trash()):
            assert await asyncio.to_thread(remove_tree, path)
        return left(self.work)

    def alive(self) -> list[int]:
        """The processes that carry the mark and are no zombies."""
        found = []
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdigit() and self.mark.encode() in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found

    async def close(self) -> None:
        """Ends every script, then the engine, and makes sure that nothing lives on."""
        await self.engine.drain(TentacleError("closing"), 0)
        for ticket in self.engine.running():
            await self.engine.cancel(ticket, 0)
        await self.engine.drain(TentacleError("closing"), PATIENCE)
        await self.engine.aclose()
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def left(work: Path) -> list[str]:
    """The names of workspaces, and of files of runs; not those that every agent has."""
    names = [path.name for path in work.iterdir() if path.name not in (RUNS, MASK_KEY)]
    runs = work / RUNS
    return sorted(
        names + [f"{RUNS}/{path.name}" for path in runs.iterdir() if path.name not in (finished.FILE, boots.FILE)]
    )


async def until(wanted: Callable[[], bool], seconds: float = PATIENCE, pause: float = 0.002) -> None:
    """Waits for what happens outside this process, of which nobody tells."""
    async with asyncio.timeout(seconds):
        while not wanted():  # noqa: ASYNC110
            await asyncio.sleep(pause)


def lines(status: RunStatus) -> list[str]:
    """The texts between the line that says that bash starts and the one that says that it ended."""
    texts = [entry.text for entry in status.entries]
    assert texts[5].startswith("Starting /bin/bash in working directory")
    assert texts[-1].startswith("Process /bin/bash in ")
    return texts[6:-1]


def recorded_form(status: RunStatus, workspace: Path) -> list[dict[str, str]]:
    """The entries as `script-runs.json` writes them."""
    return [
        {"source": _NAMES[entry.source], "text": entry.text.replace(str(workspace), "{workspace}")}
        for entry in status.entries
    ]
