"""`kill -9` of the agent in every state of a run: the next agent tells the truth, and nothing ever runs twice.

The agent here is a process of its own with the real engine.  It kills itself at a named point: hooks are put into it by
the program below, none of them is part of the product.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tentacle.contracts.script import ProcessState
from tentacle.scripts.engine import RunStatus
from tests.patience import PATIENCE
from tests.scripts.lab import Lab, left, lines

AGENT = """
import asyncio, inspect, os, signal, sys
from pathlib import Path
from tentacle.contracts.script import ProcessState
from tentacle.scripts import engine, run
from tentacle.scripts.completed_runs import CompletedRuns
from tentacle.scripts.engine import *
from tentacle.scripts.requests import *
from tentacle.scripts.shim import run_record
from tentacle.scripts.workspace import trash, workspaces
from tentacle.scripts.workspace.finished import FinishedTickets
from tentacle.scripts.workspace.run_directory import RunDirectory
from tentacle.scripts.workspace.workspaces import Workspaces
from tentacle.scripts.mutexes import Mutexes
from tentacle.scripts.launch.fork_server_client import ForkServerClient
from tentacle.scripts.workspace.workspaces import WorkspaceFile

work, point, script, source = sys.argv[1:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def kill_before(owner, name):
    setattr(owner, name, lambda *_, **__: die())

def kill_after(owner, name, when=lambda result: True):
    real = getattr(owner, name)
    if inspect.iscoroutinefunction(real):
        async def wrapped(*arguments, **named):
            result = await real(*arguments, **named)
            return die() if when(result) else result
    else:
        def wrapped(*arguments, **named):
            result = real(*arguments, **named)
            return die() if when(result) else result
    setattr(owner, name, wrapped)

HOOKS = {
    "workspace made": lambda: kill_before(workspaces, "_create"),
    "script written": lambda: kill_before(workspaces, "_put"),
    "files written": lambda: kill_before(RunDirectory, "create"),
    "log begun": lambda: kill_before(run_record, "head"),
    "run written": lambda: kill_after(RunDirectory, "create"),
    "run synced": lambda: kill_after(Workspaces, "make"),
    "lock asked for": lambda: kill_before(Mutexes, "acquire"),
    "process asked for": lambda: kill_before(ForkServerClient, "launch"),
    "process started": lambda: kill_after(ForkServerClient, "launch"),
    "just ended": lambda: kill_before(run.Run, "_end"),
    "result written": lambda: kill_after(run.Run, "_end"),
    "status asked": lambda: kill_after(run.Run, "page", lambda page: "500" in [e.text for e in page.entries[-3:]]),
    "complete asked": lambda: kill_before(CompletedRuns, "_forget"),
    "completion remembered": lambda: kill_after(FinishedTickets, "add"),
    "workspace moved": lambda: kill_after(Workspaces, "move_to_trash"),
    "being removed": lambda: kill_before(trash.TrashRemover, "_remove_all"),
    "removed": lambda: kill_after(ScriptEngine, "complete"),
}

def reached(status):
    texts = [entry.text for entry in status.entries]
    return {
        "waiting for the lock": any(text.startswith("Waiting for the script in task") for text in texts),
        "running": "ready" in texts,
        "output flowing": "100" in texts,
    }.get(point, False)

async def main():
    HOOKS.get(point, lambda: None)()
    engine = ScriptEngine(Path(work), options=EngineOptions(cancel_grace=0.3, minimum_free_bytes=None))
    await engine.start()
    alone = ScriptIsolationLevel.FULL_ISOLATION
    if point == "waiting for the lock":
        hold = f"until [ -e ../go ]; do sleep 0.01; done"
        await engine.start_script(StartRequest("T-0", hold, isolation=alone, task_id="Task-0"))
    files = (WorkspaceFile("file", Path(source)),)
    await engine.start_script(StartRequest("T-1", script, isolation=alone, files=files))
    while True:
        status = await engine.status("T-1", 0)
        if reached(status):
            die()
        if status.state is ProcessState.COMPLETE:
            break
        await asyncio.sleep(0.005)
    await engine.complete("T-1")
    await engine.completed.drained()
    raise SystemExit("this point was not reached")

asyncio.run(main())
"""

UNKNOWN, KEPT, GONE = "not a run yet", "a run to its end", "completed"
"""What the next agent has to find: so far there was nothing to lose; the whole truth; nothing any more."""


@dataclass(frozen=True)
class Point:
    name: str
    left: str
    goes_on: bool = True
    """Whether the script may go on to its end before the agent has died."""


POINTS = [
    Point("workspace made", UNKNOWN),
    Point("script written", UNKNOWN),
    Point("files written", UNKNOWN),
    Point("log begun", UNKNOWN),
    Point("run written", KEPT),
    Point("run synced", KEPT),
    Point("lock asked for", KEPT),
    Point("waiting for the lock", KEPT, goes_on=False),
    Point("process asked for", KEPT),
    Point("process started", KEPT),
    Point("running", KEPT, goes_on=False),
    Point("output flowing", KEPT, goes_on=False),
    Point("just ended", KEPT),
    Point("result written", KEPT),
    Point("status asked", KEPT),
    Point("complete asked", KEPT),
    Point("completion remembered", GONE),
    Point("workspace moved", GONE),
    Point("being removed", GONE),
    Point("removed", GONE),
]


class Scene:
    """A ticket whose script counts how often it is run, and an agent that dies while it looks after it."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.counter = directory / "runs"
        self.source = directory / "source"
        lab.work.mkdir(parents=True, exist_ok=True)
        self.source.write_text("content")
        self.script = f"""
            echo run >> {self.counter}; echo ready; seq 1 300
            until [ -e ../go ]; do sleep 0.01; done
            seq 301 500; exit 6
        """

    def go(self) -> None:
        (self.lab.work / "go").touch()

    async def play(self, point: Point) -> None:
        if point.goes_on:
            self.go()
        name, value = self.lab.mark.split("=")
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", AGENT, str(self.lab.work), point.name, self.script, str(self.source)],
            env={**os.environ, name: value},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr

    @property
    def runs(self) -> int:
        return len(self.counter.read_text().splitlines()) if self.counter.exists() else 0

    def truth(self, status: RunStatus | None) -> None:
        assert status is not None
        assert (status.state, status.exit_code, self.runs) == (ProcessState.COMPLETE, 6, 1)
        own = lines(status) if status.entries[3].text.startswith("Executable") else own_lines(status)
        assert own == ["ready", *map(str, range(1, 501))]


def own_lines(status: RunStatus) -> list[str]:
    """The script's lines of a run that had to wait for its lock."""
    return [entry.text for entry in status.entries if entry.text == "ready" or entry.text.isdigit()]


@pytest.mark.parametrize("point", [pytest.param(point, id=point.name.replace(" ", "-")) for point in POINTS])
async def test_the_next_agent_knows(point: Point, new_lab: Callable[..., Lab], tmp_path: Path) -> None:
    lab = new_lab()
    scene = Scene(lab, tmp_path)
    await scene.play(point)
    await lab.engine.start()
    before = await lab.engine.status("T-1", 0)
    assert (before is None) is (point.left != KEPT)
    if not point.goes_on:
        assert before is not None
        assert before.state is not ProcessState.COMPLETE
        scene.go()
    if point.left == GONE:
        again = await lab.run(scene.script)
        assert (again.state, again.exit_code, scene.runs) == (ProcessState.COMPLETE, 6, 1)
        assert [name for name in left(lab.work) if not name.startswith(".trash-")] == ["go"]
        return
    scene.source.write_text("content")
    for _ in range(2):
        # To the server it is one StartScript that it repeats until it is answered.
        scene.truth(await lab.run(scene.script))
    scene.truth(await lab.engine.status("t-1", 0))
    await lab.engine.complete("T-1")
    assert await lab.engine.status("T-1", 0) is None


async def test_every_agent_dies_and_only_the_last_one_sees_the_end(new_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """One run through many agents, each killed further on."""
    lab = new_lab()
    scene = Scene(lab, tmp_path)
    for name in ("files written", "log begun", "run written", "lock asked for", "running", "output flowing"):
        scene.source.write_text("content")
        await scene.play(Point(name, KEPT, goes_on=False))
    scene.go()
    await scene.play(Point("status asked", KEPT))
    await lab.engine.start()
    scene.truth(await lab.run(scene.script))


async def test_the_files_of_the_run_tell_whether_it_is_one(new_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """What the points mean on the disk."""
    found = {}
    for point in POINTS[:5]:
        lab = new_lab(work=tmp_path / point.name / "Work")
        scene = Scene(lab, lab.work.parent)
        await scene.play(point)
        runs = lab.engine.workspaces.runs.path
        found[point.name] = sorted(path.suffix for path in runs.iterdir())
    assert found == {
        "workspace made": [],
        "script written": [],
        "files written": [],
        "log begun": [".log"],
        "run written": [".log", ".run"],
    }
